/* dispatch.h asks which C library there is: none. */
