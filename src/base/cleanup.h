/* Scoped release, so that returning early is always safe. These four and no more. */
#pragma once

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

static inline void cleanup_pointer(void *pointer)
{
    free(*(void **)pointer);
}

static inline void cleanup_file(FILE **file)
{
    if (*file)
        fclose(*file);
}

static inline void cleanup_lock(pthread_mutex_t **lock)
{
    pthread_mutex_unlock(*lock);
}

#define CLEANUP_FD __attribute__((cleanup(cleanup_fd)))        /* int fd, -1 when none */
#define CLEANUP_FREE __attribute__((cleanup(cleanup_pointer))) /* any malloc'd pointer */
#define CLEANUP_FILE __attribute__((cleanup(cleanup_file)))    /* FILE * */
/* Holds the lock to the end of the scope. */
#define SCOPED_LOCK(lock)                                                                                              \
    __attribute__((cleanup(cleanup_lock), unused)) pthread_mutex_t *scoped_lock_ = (lock);                             \
    pthread_mutex_lock(scoped_lock_)
