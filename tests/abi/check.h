/* Checks of the test programs: the first that fails says where and ends the program. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                             \
    do {                                                                             \
        if (!(condition)) {                                                          \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            exit(1);                                                                 \
        }                                                                            \
    } while (0)

/* A call that must succeed; needs a `graft_error *error` that is NULL. */
#define OK(call)                                                                     \
    do {                                                                             \
        graft_status got_ = (call);                                                  \
        if (got_ < 0) {                                                              \
            fprintf(stderr, "%s:%d: %s: %s: %s\n", __FILE__, __LINE__, #call,        \
                    graft_status_name(got_), graft_error_message(error));            \
            exit(1);                                                                 \
        }                                                                            \
    } while (0)

/* A call that must fail with a status, and a sentence that holds `words`. */
#define FAILS(call, status, words)                                                   \
    do {                                                                             \
        graft_status got_ = (call);                                                  \
        if (got_ != (status) || !strstr(graft_error_message(error), (words))) {      \
            fprintf(stderr, "%s:%d: %s: %s: %s\n", __FILE__, __LINE__, #call,        \
                    graft_status_name(got_), graft_error_message(error));            \
            exit(1);                                                                 \
        }                                                                            \
        graft_error_release(error);                                                  \
        error = NULL;                                                                \
    } while (0)

#endif
