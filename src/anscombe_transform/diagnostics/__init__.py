"""Plots that show whether a calibration can be trusted and how the transform changes a movie.

`plot_noise_transfer`
    the calibration itself: noise variance against mean, and a line with the gain as slope;
`plot_stabilization`
    noise variance against mean before and after the transform;
`plot_residuals`
    the change that storing makes: decoded minus original, in standard deviations of the noise;
`plot_code_histogram`
    which codes are used, and how many bits a pixel needs at least;
`plot_summary`
    all of it on one page;
`plot_calibration_report`
    the evidence behind a calibration: verdict and reasons, curve, residuals, whiteness, and maps of the
    field;
`plot_pixel_maps`
    zero level, read noise and gain of every pixel;
`plot_decision`
    the size for each step β, and the change of results compared with chance;
`plot_trend`
    the constants of a detector over the recordings of an archive (`measure_trend`).

Every function draws into the Axes (or Figure) that it is given or makes a Figure of its own, returns the Axes
or Figure and shows nothing: ``ax.figure.savefig("plot.png")`` needs neither a display nor pyplot. Movies are
read run by run, a run being a few consecutive frames, and only as many as the statistics need; so a movie may
be larger than memory. The noise of a movie is measured here without the calibration's code, so that the plots
are a check on it.

References
----------
J. R. Janesick, *Photon Transfer* (SPIE Press, 2007): noise variance against mean signal.
"""

from anscombe_transform.diagnostics.calibration_page import plot_calibration_report
from anscombe_transform.diagnostics.decision_page import plot_decision
from anscombe_transform.diagnostics.plots.codes import plot_code_histogram
from anscombe_transform.diagnostics.plots.pixel_maps import plot_pixel_maps
from anscombe_transform.diagnostics.plots.residuals import plot_residuals
from anscombe_transform.diagnostics.plots.stabilization import plot_stabilization
from anscombe_transform.diagnostics.plots.transfer import plot_noise_transfer
from anscombe_transform.diagnostics.summary_page import plot_summary
from anscombe_transform.diagnostics.trend import Trend, TrendPoint, measure_trend, plot_trend

__all__ = [
    "Trend",
    "TrendPoint",
    "measure_trend",
    "plot_calibration_report",
    "plot_code_histogram",
    "plot_decision",
    "plot_noise_transfer",
    "plot_pixel_maps",
    "plot_residuals",
    "plot_stabilization",
    "plot_summary",
    "plot_trend",
]
