# docker build -t meerkat .
# docker run --net=host -e RELAY_IP=... -e STUN_SECRET=... -e REALM=... meerkat
# With --read-only: --tmpfs /run/meerkat:mode=700,uid=9000
#
# With OFFLOAD=auto (docs/design/offload.md): --user root --cap-add BPF --cap-add PERFMON
# --cap-add NET_ADMIN, on a host whose seccomp profile allows bpf.
#
# Docker's default seccomp profile refuses io_uring; Meerkat then says so in one line and serves by
# epoll. What io_uring needs is docs/installing.md's to tell.
FROM debian:bookworm-slim AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends erlang-base erlang-crypto erlang-dev erlang-edoc \
      erlang-eldap erlang-inets erlang-jiffy erlang-jose erlang-p1-mysql erlang-p1-pgsql \
      erlang-p1-sqlite3 erlang-p1-stringprep erlang-p1-xml erlang-redis-client erlang-ssl \
      erlang-syntax-tools erlang-tools gcc libbpf-dev libc6-dev libconfig-dev liburing-dev \
      libssl-dev make rebar3
COPY . /src
WORKDIR /src
RUN rebar3 release --output-dir /opt \
 && strip --strip-unneeded /opt/meerkat/erts-*/bin/beam.smp /opt/meerkat/lib/*/priv/*.so \
      /opt/meerkat/lib/meerkat-*/priv/meerkat_relay \
 && rm -rf /opt/meerkat/lib/*/src /opt/meerkat/lib/*/include

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="Meerkat" \
      org.opencontainers.image.description="STUN/TURN server" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN apt-get update \
 && apt-get install -y --no-install-recommends libbpf1 libconfig9 libexpat1 libsqlite3-0 libssl3 libstdc++6 \
      libsystemd0 libtinfo6 liburing2 zlib1g \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/* \
 && useradd --system --uid 9000 --create-home --home-dir /var/lib/meerkat meerkat \
 && install -d -o meerkat -m 700 /run/meerkat
COPY --from=build /opt/meerkat /opt/meerkat
COPY rel/docker-entrypoint /opt/meerkat/bin/docker-entrypoint
ENV PATH=/opt/meerkat/bin:$PATH HOME=/var/lib/meerkat MEERKAT_RUN_DIR=/run/meerkat
USER meerkat
WORKDIR /var/lib/meerkat
EXPOSE 3478/udp 3478/tcp 5349/udp 5349/tcp 443/tcp
STOPSIGNAL SIGTERM
# Starts no Erlang: a shell and a small program in C that asks the one which serves.
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s CMD ["meerkat", "ping"]
ENTRYPOINT ["/opt/meerkat/bin/docker-entrypoint"]
CMD ["foreground"]
