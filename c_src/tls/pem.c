/*
 * What reading certificates of any use has in common: PEM, their times, and saying what is wrong so
 * that whoever wrote the files knows what to do.
 */
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <time.h>

#include "inside.h"

bool why_say(char why[TLS_WHY_MAX], const char *text)
{
    snprintf(why, TLS_WHY_MAX, "%s", text);
    return false;
}

bool why_as_said(char why[TLS_WHY_MAX], const char *text)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    snprintf(why, TLS_WHY_MAX, "%s (%s)", text, reason ? reason : "no reason given");
    ERR_clear_error();
    return false;
}

BIO *pem_open(const void *data, size_t len)
{
    return BIO_new_mem_buf(data, (int)MIN(len, (size_t)INT32_MAX));
}

/* The end is told as an error like any other. */
bool pem_at_end(void)
{
    bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    if (at_end)
        ERR_clear_error();
    return at_end;
}

void cert_subject(const X509 *x, char *out, size_t cap)
{
    if (X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, out, (int)cap) < 0)
        X509_NAME_oneline(X509_get_subject_name(x), out, (int)cap);
}

int64_t cert_seconds(const ASN1_TIME *t)
{
    struct tm tm;
    return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

bool cert_in_time(const X509 *x, int64_t now_s, char why[TLS_WHY_MAX])
{
    int64_t from = cert_seconds(X509_get0_notBefore(x));
    int64_t until = cert_seconds(X509_get0_notAfter(x));
    if (now_s == TLS_ANY_TIME || (now_s >= from && now_s < until))
        return true;
    char name[96], date[32];
    time_t at = now_s < from ? from : until;
    struct tm tm;
    cert_subject(x, name, sizeof(name));
    strftime(date, sizeof(date), "%Y-%m-%d %H:%M UTC", gmtime_r(&at, &tm));
    snprintf(why, TLS_WHY_MAX, "the certificate of %s %s %s", name,
             now_s < from ? "is not valid before" : "expired on", date);
    return false;
}
