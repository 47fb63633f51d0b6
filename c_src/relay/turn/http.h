/*
 * HTTP on a port of ours: somebody has typed the address into a browser, or pointed a web proxy at
 * it. The answer says what the port is for.
 */
#ifndef MEERKAT_HTTP_H
#define MEERKAT_HTTP_H

#include "base.h"

/* Does a request begin there? Its method must be there as a whole: nobody sends less at first. */
bool http_begins(const uint8_t *data, size_t len);

/* The answer, all of it. */
const char *http_answer(void);

#endif
