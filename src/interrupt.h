/* SIGTERM and SIGINT as a flag that long work looks at between its steps. */
#pragma once

#include <signal.h>

/* Installs the handlers; the flag becomes nonzero when either signal arrives. */
const volatile sig_atomic_t *interrupt_flag(void);
