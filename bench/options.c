/*
 * The command line: one table of options, read by the parser; the text of --help.
 */
#include "options.h"

#include <errno.h>
#include <math.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>
#include <openssl/evp.h>

#include "crypto.h"

static const char help[] =
    "meerkat_bench [MODE] turn:HOST:PORT... (--user U --password P | --secret S) [OPTION...]\n"
    "\n"
    "Puts a TURN server under load, over UDP, and tells what it did. HOST may be [IPv6]. Where "
    "there\n"
    "are several servers, of one realm, clients go to each in turn.\n"
    "\n"
    "modes\n"
    "  traffic      packets on a schedule through N allocations: loss, order, latency, CPU "
    "(default)\n"
    "  search       the highest rate without loss, then latency at 70 % of it\n"
    "  allocations  allocate, bind a channel, refresh, delete, over and over: how many a second\n"
    "  keepalives   hold N allocations; permit, bind and refresh, over and over: how many a "
    "second\n"
    "  binding      Binding requests, over and over: how many a second\n"
    "  challenge    Allocates without credentials, which 401 answers: how many a second\n"
    "  idle         hold N1, then N2 allocations: memory of the server and of the kernel\n"
    "  sink         no server (and no URI): what the generator itself can send and take\n"
    "\n"
    "credentials\n"
    "  --user U --password P   long-term credentials\n"
    "  --secret S              shared secret: name and password are made from it\n"
    "\n"
    "traffic, search, sink\n"
    "  --flows N         allocations (100); each is a client and a channel\n"
    "  --channels N      channels of each allocation, each to a peer port of its own (1)\n"
    "  --method M        channel (default) or send: Send and Data indications\n"
    "  --direction D     up: client to peer (default), down, both, or echo: up and back again\n"
    "  --pairs           clients are each other's peers, two and two, by their relayed addresses:\n"
    "                    both send up, and both ways of a call are theirs\n"
    "  --payload BYTES   of each packet, 24 to 8192 (160)\n"
    "  --burst B         packets back to back of a flow at each turn (1)\n"
    "  --gso             bursts leave the generator as one UDP_SEGMENT send each\n"
    "  --gro             its sockets take runs of datagrams as one (UDP_GRO)\n"
    "  --rate PPS        offered in all, flows and directions together (10000); 0: as much as it\n"
    "                    can\n"
    "  --max-late S      packets that are late leave at twice the rate; later than this they are\n"
    "                    skipped, and told as such (0.1)\n"
    "  --duration S      measured (10)        --warmup S   before that, not counted (1)\n"
    "  --workload W      what is not given otherwise from a preset; packets go both ways:\n"
    "                    W1 audio: 100 flows, 160 B, 50 a second of each\n"
    "                    W2 video: 100 flows, 1100 B, 8 to a frame, 30 frames a second of each\n"
    "                    W3 one hot flow, 1200 B in bursts of 16, 50000 packets a second in all\n"
    "                    W4 1000 flows, 160 B, single packets, 20000 a second in all\n"
    "                    W5 the same as indications\n"
    "                    W6 the mode allocations     W7 the mode idle, 1000,10000\n"
    "  --peer IP         where the peers are (the address that reaches the server); may be IPv6\n"
    "  --family 4|6      REQUESTED-ADDRESS-FAMILY (none is sent)\n"
    "  --clients K       all flows share K sockets, each flow with a loopback address of its own;\n"
    "                    cheaper than a socket for each flow, and only towards 127.0.0.0/8\n"
    "  --sources N       addresses of 127.0.0.0/8 that clients come from, others in each run\n"
    "                    (one for each 250 flows, and for each cycle of allocations)\n"
    "  --keep S          each client prolongs what it has so often (150)\n"
    "  --in-flight N     requests under way at once, also of the modes below (100)\n"
    "\n"
    "search\n"
    "  --rate PPS        to begin with     --trial S     length of each trial (5)\n"
    "  --loss PERCENT    a trial may lose (0.01)     --confirm N   times the result must hold (2)\n"
    "\n"
    "allocations, keepalives, binding, challenge\n"
    "  --count M         cycles, instead of --duration S\n"
    "\n"
    "idle\n"
    "  --flows N1,N2     (1000,10000)      --duration S  how long the CPU is watched at N2 (5)\n"
    "  --part-pid PID[,PID]     whose memory is told by itself, beside that of all\n"
    "\n"
    "what is measured, and told\n"
    "  --server-pid PID[,PID]   whose CPU and memory counts; may be repeated\n"
    "  --server-name NAME       the same, of all processes of that name (/proc/PID/comm)\n"
    "  --cpu N           runs the generator on this CPU only\n"
    "  --csv FILE        adds a row, and the header to a new file; one of other columns is "
    "refused\n"
    "  --label TEXT      its first column\n"
    "  --progress        a line each second on stderr, as on a terminal     --quiet   neither\n"
    "  --max-loss PERCENT       of traffic, before the exit status is 1 (1; with --rate 0 100)\n"
    "\n"
    "exit status: 0 all is well; 1 more was lost than --max-loss, some request failed, or it was\n"
    "interrupted; 2 wrong usage, or something here failed; 3 no allocation could be made, or none\n"
    "with a channel or permission, or nothing was answered as it should be\n";

static const char *const modes[] = {"traffic", "allocations", "keepalives", "binding", "challenge",
                                    "idle",    "search",      "sink",       NULL};
static const char *const methods[] = {"channel", "send", NULL};
static const char *const directions[] = {"up", "down", "both", "echo", NULL};
static const char *const workloads[] = {"W1", "W2", "W3", "W4", "W5", "W6", "W7", NULL};

const char *mode_name(enum mode mode)
{
    return modes[mode];
}

const char *method_name(enum method method)
{
    return methods[method];
}

const char *direction_name(enum direction direction)
{
    return directions[direction];
}

/* What is known only once all is read. */
struct raw {
    struct options o;
    unsigned workload; /* 1..7, 0: none */
    unsigned mode_given;
    const char *user, *password, *flows, *peer;
    char *positional[1 + SERVERS_MAX];
    unsigned positional_count;
};

static int wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));

static int wrong(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("meerkat_bench: ", stderr);
    vfprintf(stderr, format, args);
    fputs("; --help tells the options\n", stderr);
    va_end(args);
    return EXIT_USAGE;
}

enum kind { FLAG, TEXT, UINT, REAL, CHOICE, PIDS, NAME, IP };

static struct raw raw;

static const struct row {
    const char *name;
    enum kind kind;
    void *to;
    double min, max;
    const char *const *choices;
} table[] = {
    {"user", TEXT, &raw.user, 0, 0, NULL},
    {"password", TEXT, &raw.password, 0, 0, NULL},
    {"secret", TEXT, &raw.o.secret, 0, 0, NULL},
    {"flows", TEXT, &raw.flows, 0, 0, NULL},
    {"channels", UINT, &raw.o.channels, 1, 64, NULL},
    {"method", CHOICE, &raw.o.method, 0, 0, methods},
    {"direction", CHOICE, &raw.o.direction, 0, 0, directions},
    {"pairs", FLAG, &raw.o.pairs, 0, 0, NULL},
    {"payload", UINT, &raw.o.payload, 24, 8192, NULL},
    {"burst", UINT, &raw.o.burst, 1, 64, NULL},
    {"gso", FLAG, &raw.o.gso, 0, 0, NULL},
    {"gro", FLAG, &raw.o.gro, 0, 0, NULL},
    {"rate", REAL, &raw.o.rate, 0, 1e9, NULL},
    {"duration", REAL, &raw.o.duration, 0.1, 1e6, NULL},
    {"warmup", REAL, &raw.o.warmup, 0, 1e6, NULL},
    {"max-late", REAL, &raw.o.max_late, 0.001, 1e6, NULL},
    {"keep", REAL, &raw.o.keep, 0.1, 1e6, NULL},
    {"workload", CHOICE, &raw.workload, 0, 0, workloads},
    {"peer", IP, &raw.o.peer, 0, 0, NULL},
    {"family", UINT, &raw.o.family, 4, 6, NULL},
    {"clients", UINT, &raw.o.clients, 1, 1024, NULL},
    {"sources", UINT, &raw.o.sources, 1, 60000, NULL},
    {"in-flight", UINT, &raw.o.in_flight, 1, 100000, NULL},
    {"count", UINT, &raw.o.count, 1, 4e9, NULL},
    {"loss", REAL, &raw.o.loss, 0, 100, NULL},
    {"trial", REAL, &raw.o.trial, 0.1, 1e4, NULL},
    {"confirm", UINT, &raw.o.confirm, 0, 100, NULL},
    {"server-pid", PIDS, NULL, 0, 0, NULL},
    {"part-pid", PIDS, NULL, 0, 0, NULL},
    {"server-name", NAME, NULL, 0, 0, NULL},
    {"cpu", UINT, &raw.o.cpu, 0, 1023, NULL},
    {"csv", TEXT, &raw.o.csv, 0, 0, NULL},
    {"label", TEXT, &raw.o.label, 0, 0, NULL},
    {"progress", FLAG, &raw.o.progress, 0, 0, NULL},
    {"quiet", FLAG, &raw.o.quiet, 0, 0, NULL},
    {"max-loss", REAL, &raw.o.max_loss, 0, 100, NULL},
};

static bool given[ARRAY_SIZE(table)];

/* Was this option on the command line? */
static bool is_given(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(table); i++)
        if (strcmp(table[i].name, name) == 0)
            return given[i];
    return false;
}

static bool number(const char *text, double *out)
{
    char *end;
    errno = 0;
    *out = strtod(text, &end);
    return end != text && *end == '\0' && errno == 0 && isfinite(*out);
}

static int take_number(const struct row *row, const char *value)
{
    double v;
    if (!number(value, &v) || v < row->min || v > row->max || (row->kind == UINT && v != trunc(v)))
        return wrong("--%s %s: must be %s from %.10g to %.10g", row->name, value,
                     row->kind == UINT ? "a whole number" : "a number", row->min, row->max);
    if (row->kind == REAL)
        *(double *)row->to = v;
    else if (row->to == &raw.o.count)
        raw.o.count = (uint64_t)v;
    else
        *(unsigned *)row->to = (unsigned)v;
    return -1;
}

static int take_choice(const struct row *row, const char *value)
{
    for (unsigned i = 0; row->choices[i]; i++) {
        if (strcasecmp(row->choices[i], value) == 0) {
            *(unsigned *)row->to = i + (row->choices == workloads);
            return -1;
        }
    }
    fprintf(stderr, "meerkat_bench: --%s %s: must be one of", row->name, value);
    for (unsigned i = 0; row->choices[i]; i++)
        fprintf(stderr, " %s", row->choices[i]);
    fputc('\n', stderr);
    return EXIT_USAGE;
}

static int take_pids(const struct row *row, const char *value)
{
    bool part = strcmp(row->name, "part-pid") == 0;
    int *pids = part ? raw.o.parts : raw.o.pids;
    unsigned *count = part ? &raw.o.part_count : &raw.o.pid_count;
    for (const char *p = value; *p;) {
        char *end;
        long pid = strtol(p, &end, 10);
        if (end == p || pid < 1 || pid > 1 << 30 || (*end && *end != ','))
            return wrong("--%s %s: must be process ids with commas between", row->name, value);
        if (*count == PIDS_MAX)
            return wrong("--%s: more than %d", row->name, PIDS_MAX);
        pids[(*count)++] = (int)pid;
        p = *end ? end + 1 : end;
    }
    return -1;
}

static int take(const struct row *row, const char *value)
{
    given[row - table] = true;
    switch (row->kind) {
    case FLAG:
        *(bool *)row->to = true;
        return -1;
    case TEXT:
        *(const char **)row->to = value;
        return -1;
    case UINT:
    case REAL:
        return take_number(row, value);
    case CHOICE:
        return take_choice(row, value);
    case PIDS:
        return take_pids(row, value);
    case NAME:
        if (raw.o.name_count == NAMES_MAX)
            return wrong("--server-name: more than %d", NAMES_MAX);
        raw.o.names[raw.o.name_count++] = value;
        return -1;
    case IP:
        return addr_parse(row->to, value, 0) ? -1 : wrong("--%s %s: no IP", row->name, value);
    }
    return -1;
}

/* One argument, and its value in the next or behind '='; moves *i over what was used. */
static int argument(int argc, char **argv, int *i)
{
    char *arg = argv[*i];
    if (strncmp(arg, "--", 2) != 0) {
        if (raw.positional_count == ARRAY_SIZE(raw.positional))
            return wrong("%s: one mode and %d URIs are enough", arg, SERVERS_MAX);
        raw.positional[raw.positional_count++] = arg;
        return -1;
    }
    char *equals = strchr(arg, '=');
    size_t len = equals ? (size_t)(equals - arg) - 2 : strlen(arg) - 2;
    for (const struct row *row = table; row < table + ARRAY_SIZE(table); row++) {
        if (strlen(row->name) != len || memcmp(row->name, arg + 2, len) != 0)
            continue;
        if (row->kind == FLAG)
            return equals ? wrong("--%s takes no value", row->name) : take(row, NULL);
        if (equals)
            return take(row, equals + 1);
        if (*i + 1 == argc)
            return wrong("--%s: a value is missing", row->name);
        return take(row, argv[++*i]);
    }
    return wrong("%s: no such option", arg);
}

/* turn:HOST[:PORT][?transport=udp]; HOST is a name, an IPv4 or a bracketed IPv6 address. */
static int resolve(const char *uri, struct addr *out)
{
    char host[256], port[8] = "3478";
    const char *p = strncmp(uri, "turn:", 5) == 0 ? uri + 5 : uri;
    size_t len = *p == '[' ? strcspn(++p, "]") : strcspn(p, ":?");
    if (len == 0 || len >= sizeof(host))
        return wrong("%s: must be turn:HOST:PORT", uri);
    memcpy(host, p, len);
    host[len] = '\0';
    p += len + (p[len] == ']');
    if (*p == ':') {
        size_t digits = strspn(p + 1, "0123456789");
        if (digits == 0 || digits > 5)
            return wrong("%s: no such port", uri);
        memcpy(port, p + 1, digits);
        port[digits] = '\0';
        p += 1 + digits;
    }
    if (*p && strcmp(p, "?transport=udp") != 0)
        return wrong("%s: must be turn:HOST:PORT, and UDP", uri);
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM}, *found;
    int err = getaddrinfo(host, port, &hints, &found);
    if (err)
        return wrong("%s: %s", uri, gai_strerror(err));
    bool ok = addr_from_sockaddr(out, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return ok && out->port ? -1 : wrong("%s: no address to send to", uri);
}

static int positional(void)
{
    unsigned n = 0;
    for (unsigned m = 0; n == 0 && raw.positional_count && modes[m]; m++) {
        if (strcmp(raw.positional[0], modes[m]) == 0) {
            raw.o.mode = (enum mode)m;
            raw.mode_given = n = 1;
        }
    }
    if (raw.workload >= 6 && !raw.mode_given)
        raw.o.mode = raw.workload == 6 ? MODE_ALLOCATIONS : MODE_IDLE;
    if (raw.o.mode == MODE_SINK)
        return raw.positional_count > 1 ? wrong("sink has no server") : -1;
    if (raw.positional_count <= n)
        return wrong("a server is missing");
    if (n == 0 && raw.positional_count > 1 && strncmp(raw.positional[0], "turn:", 5) != 0)
        return wrong("%s: no such mode", raw.positional[0]);
    raw.o.uri = raw.positional[n];
    int ret = -1;
    for (; ret < 0 && n < raw.positional_count; n++)
        ret = resolve(raw.positional[n], &raw.o.servers[raw.o.server_count++]);
    return ret;
}

static int copy_credential(char *to, const char *name, const char *value)
{
    if (!*value || strlen(value) > USER_MAX)
        return wrong("--%s: must have 1 to %d bytes", name, USER_MAX);
    memcpy(to, value, strlen(value) + 1);
    return -1;
}

/* The convention of "A REST API For Access To TURN Services": good for a day. */
static void from_secret(struct options *o)
{
    uint8_t mac[SHA1_LEN];
    int len = snprintf(o->user, sizeof(o->user), "%lld:bench", (long long)time(NULL) + 86400);
    struct crypto_part part = {o->user, (size_t)len};
    crypto_hmac_sha1(o->secret, strlen(o->secret), &part, 1, mac);
    EVP_EncodeBlock((unsigned char *)o->password, mac, sizeof(mac));
}

/* What strangers ask nobody signs; credentials may be given nevertheless. */
static bool is_signing(enum mode mode)
{
    return mode != MODE_SINK && mode != MODE_BINDING && mode != MODE_CHALLENGE;
}

static int credentials(struct options *o)
{
    if (!is_signing(o->mode))
        return -1;
    if (o->secret && (raw.user || raw.password))
        return wrong("--secret makes name and password: it goes with neither");
    if (o->secret) {
        from_secret(o);
        return -1;
    }
    if (!raw.user || !raw.password)
        return wrong("--user and --password, or --secret, are missing");
    int ret = copy_credential(o->user, "user", raw.user);
    return ret >= 0 ? ret : copy_credential(o->password, "password", raw.password);
}

/* "N", or for idle "N1,N2". */
static int flows(struct options *o)
{
    if (!raw.flows)
        return -1;
    char *end;
    unsigned long first = strtoul(raw.flows, &end, 10), more = 0;
    bool two = end != raw.flows && *end == ',';
    if (two) {
        const char *second = end + 1;
        more = strtoul(second, &end, 10);
        two = end != second;
    }
    if (*raw.flows == '-' || end == raw.flows || *end || first < 1 || first > 1000000 ||
        more > 1000000)
        return wrong("--flows %s: must be a whole number from 1 to 1000000", raw.flows);
    if (two != (o->mode == MODE_IDLE) || (two && more <= first))
        return wrong("--flows %s: idle wants N1,N2, N2 being larger, other modes one number",
                     raw.flows);
    o->flows = (unsigned)first;
    o->flows_more = (unsigned)more;
    return -1;
}

/* What a workload says goes where no option does. */
static void preset(struct options *o)
{
    static const struct {
        unsigned flows, payload, burst;
        double flow_rate; /* of a flow and direction; 0: `rate` */
        double rate;
        enum method method;
    } presets[] = {
        {100, 160, 1, 50, 0, METHOD_CHANNEL},    {100, 1100, 8, 240, 0, METHOD_CHANNEL},
        {1, 1200, 16, 0, 50000, METHOD_CHANNEL}, {1000, 160, 1, 0, 20000, METHOD_CHANNEL},
        {1000, 160, 1, 0, 20000, METHOD_SEND},
    };
    if (raw.workload == 0 || raw.workload > ARRAY_SIZE(presets))
        return;
    unsigned w = raw.workload - 1;
    if (!is_given("flows"))
        o->flows = presets[w].flows;
    if (!is_given("payload"))
        o->payload = presets[w].payload;
    if (!is_given("burst"))
        o->burst = presets[w].burst;
    if (!is_given("method"))
        o->method = presets[w].method;
    if (!is_given("direction"))
        o->direction = DIRECTION_BOTH;
    if (!is_given("rate"))
        o->rate = presets[w].rate > 0 ? presets[w].rate
                                      : presets[w].flow_rate * o->flows * o->channels *
                                            (1 + (o->direction == DIRECTION_BOTH));
}

static int consistent(struct options *o)
{
    bool loopback4 = true;
    for (unsigned i = 0; i < o->server_count; i++)
        loopback4 &= o->servers[i].family == ADDR_V4 && addr_v4(&o->servers[i])[0] == 127;
    if (o->family && o->family != 4 && o->family != 6)
        return wrong("--family %u: must be 4 or 6", o->family);
    if ((o->clients || o->sources) && !loopback4)
        return wrong("--%s is for servers on 127.0.0.0/8", o->clients ? "clients" : "sources");
    if (o->clients && (o->mode == MODE_SINK || o->mode == MODE_ALLOCATIONS))
        return wrong("--clients has no meaning with %s", mode_name(o->mode));
    if (o->peer.family && o->family && (o->peer.family == ADDR_V6) != (o->family == 6))
        return wrong("--peer and --family disagree: a relayed address sends to its own family");
    if (o->mode == MODE_SINK && o->direction == DIRECTION_ECHO)
        return wrong("sink goes up, down or both");
    if (o->pairs && (o->mode != MODE_TRAFFIC && o->mode != MODE_SEARCH))
        return wrong("--pairs has no meaning with %s", mode_name(o->mode));
    if (o->pairs && (o->direction != DIRECTION_UP || o->channels != 1 || o->flows % 2))
        return wrong("--pairs goes up, with an even number of flows of one channel each");
    if (o->count && is_given("duration"))
        return wrong("--count and --duration: one of them ends it");
    return -1;
}

static void defaults(struct options *o)
{
    bool saturated = o->rate == 0;
    if (!is_given("max-loss"))
        o->max_loss = saturated ? 100 : 1;
    o->rate_given = is_given("rate") || raw.workload;
    if (!is_given("duration"))
        o->duration = o->mode == MODE_IDLE ? 5 : 10;
    if (!is_given("label"))
        o->label = "";
    if (o->mode == MODE_IDLE && !o->flows_more) {
        o->flows = 1000;
        o->flows_more = 10000;
    }
    if (o->quiet)
        o->progress = false;
    else if (isatty(STDERR_FILENO))
        o->progress = true;
}

int options_parse(struct options *o, int argc, char **argv)
{
    raw = (struct raw){.o = {.flows = 100,
                             .channels = 1,
                             .payload = 160,
                             .burst = 1,
                             .rate = 10000,
                             .warmup = 1,
                             .keep = 150,
                             .max_late = 0.1,
                             .in_flight = 100,
                             .loss = 0.01,
                             .trial = 5,
                             .confirm = 2,
                             .cpu = -1}};
    int ret = -1;
    for (int i = 1; ret < 0 && i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            fputs(help, stdout);
            return EXIT_WELL;
        }
        ret = argument(argc, argv, &i);
    }
    if (ret < 0)
        ret = positional();
    if (ret < 0)
        ret = flows(&raw.o);
    if (ret < 0)
        ret = credentials(&raw.o);
    if (ret >= 0)
        return ret;
    preset(&raw.o);
    defaults(&raw.o);
    *o = raw.o;
    return consistent(o);
}
