#include "letters.h"

#include <string.h>

#include "mail.h"

bool letters_init(struct letters *l)
{
    pthread_mutex_init(&l->lock, NULL);
    return mailbox_init(&l->box, MAIL_SIZE);
}

void letters_destroy(struct letters *l)
{
    pthread_mutex_destroy(&l->lock);
    mailbox_destroy(&l->box);
}

bool letters_put(struct letters *l, uint8_t kind, const void *data, size_t len, const void *more,
                 size_t more_len)
{
    uint32_t all = (uint32_t)(1 + len + more_len);
    pthread_mutex_lock(&l->lock);
    uint8_t *record = mailbox_reserve(&l->box, all);
    if (record) {
        record[0] = kind;
        memcpy(record + 1, data, len);
        if (more_len)
            memcpy(record + 1 + len, more, more_len);
        mailbox_commit(&l->box, record, all);
    }
    pthread_mutex_unlock(&l->lock);
    return record != NULL;
}
