#include "interrupt.h"

#include <stddef.h>

static volatile sig_atomic_t interrupted; /* a signal handler can reach nothing else */

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

const volatile sig_atomic_t *interrupt_flag(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    return &interrupted;
}
