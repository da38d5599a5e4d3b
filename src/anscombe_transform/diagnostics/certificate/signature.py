"""A signature under a file by a key of the user's own: OpenSSH or minisign, whichever made the key."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

__all__ = ["NAMESPACE", "SUFFIXES", "Signer", "signer_for"]

NAMESPACE = "anscombe-certificate"
"""Purpose of a signature of OpenSSH: one that was made for another purpose does not pass."""

SUFFIXES = (".sig", ".minisig")
"""Of signatures, added to the name of the signed file."""


@dataclass(frozen=True, slots=True)
class Signer:
    """A key and the program that signs with it.

    Attributes
    ----------
    key : Path
    program : {"ssh-keygen", "minisign"}
    """

    key: Path
    program: str

    def sign(self, path: Path) -> Path:
        """Write the signature beside a file.

        The program may ask for the passphrase of the key in the terminal.

        Raises
        ------
        OSError
            The program did not sign; the error has its message.
        """
        if self.program == "minisign":
            command, suffix = ["-S", "-s", str(self.key), "-m", str(path)], ".minisig"
        else:
            command, suffix = ["-Y", "sign", "-f", str(self.key), "-n", NAMESPACE, str(path)], ".sig"
        done = subprocess.run(
            [self.program, *command], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        signature = path.with_name(f"{path.name}{suffix}")
        if done.returncode or not signature.is_file():
            said = done.stdout.decode(errors="replace").strip().splitlines()
            raise OSError(
                f"{self.program} did not sign {path} with {self.key}: {said[-1] if said else 'no reason'}"
            )
        return signature


def check_command(path: Path, program: str) -> str:
    """The command that checks a signature, as a person types it."""
    name = shlex.quote(path.name)
    if program == "minisign":
        return f"minisign -V -p KEY.pub -m {name}"
    return (
        f"ssh-keygen -Y verify -f allowed_signers -I PERSON -n {NAMESPACE} -s {name}.sig < {name} "
        "(allowed_signers has one line for each person: a name and their public key)"
    )


def signer_for(key: Path) -> Signer:
    """Find the program for a key.

    Raises
    ------
    FileNotFoundError
        There is no such key.
    ValueError
        It is a public key.
    ModuleNotFoundError
        The program that signs with it is not installed.
    """
    if not key.is_file():
        raise FileNotFoundError(
            f"there is no key {key} to sign with (--sign): ssh-keygen -t ed25519 makes one"
        )
    first = key.read_bytes()[:200]
    if b"minisign public key" in first or first.startswith((b"ssh-", b"ecdsa-", b"sk-")):
        raise ValueError(f"{key} is a public key, and signing (--sign) needs the private one")
    program = "minisign" if b"minisign" in first else "ssh-keygen"
    if shutil.which(program) is None:
        package = "minisign" if program == "minisign" else "OpenSSH"
        raise ModuleNotFoundError(
            f"{key} signs with {program}, which is not installed: install {package}, or sign nothing (--sign)"
        )
    return Signer(key, program)
