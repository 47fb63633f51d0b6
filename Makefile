# The commands of the house; `make help` tells them.

ARGS ?=
SUITE ?=
T ?= 60
SECONDS ?= 25
WAY ?= messages
TRANSPORT ?= udp
NAMES ?= trixie sid

.PHONY: all build help run test unit ct check fuzz asan tsan epoll mutants another-release instructions gen clean bench bench-streams bench-report flood floods fleet fleet-simulation image distributions tag package packages deb release newcomer docs demo

all: build

## make                build all that serves (and install what that needs, as root on Debian)
build:
	@.ci/deps run
	@[ -d _build/default ] || echo "Building for the first time: C, then Erlang; it takes a minute"
	@rebar3 compile

## make run            build, then serve in the foreground; ARGS='-c FILE' or variables configure it
run: build
	@exec rel/bin/meerkatctl foreground $(ARGS)

## make demo           a video through Meerkat from NAT to NAT, as root (examples/stream); SECONDS=N
##                     (25), WAY=jingle, TRANSPORT=tcp or tls
demo: demo-deps
	@cd examples/stream && rebar3 compile
	@examples/stream/demo.sh --seconds $(SECONDS) --transport $(TRANSPORT) --way $(WAY)

## make test           everything below; ends with the number of tests passed and failed
test: test-deps
	@test/run.sh

## make unit           the C test programs
unit: test-deps
	@test/run.sh unit

## make ct             the Common Test suites, or those of SUITE='a_SUITE b_SUITE'
ct: test-deps
	@test/run.sh ct $(SUITE)

## make fuzz           each fuzzer for T seconds (60)
fuzz: test-deps
	@FUZZ_SECONDS=$(T) test/run.sh fuzz

## make epoll          the suites that start a relay, with packets moved by epoll
epoll: test-deps
	@test/run.sh epoll

## make mutants        faults put into the relay's answers by grant, each to be found by a test
mutants: test-deps
	@test/mutants.sh $(W)

## make another-release   another release takes over under calls, with its own protocol, and back
another-release: test-deps
	@rebar3 ct --suite test/upgrade_SUITE --case another_release_and_back

## make instructions   accepts what the relay's code costs each packet now (bench/instructions.txt)
instructions: test-deps
	@test/instructions.sh accept

## make asan | tsan    C tests and the suites of the RFCs, C built with that sanitizer
asan tsan: test-deps
	@test/run.sh $@

## make bench          against coturn and others, 25 minutes (bench/README.md); QUICK=1, ONLY=NAME,
##                     WRITE=1 puts the figures into docs/performance.md, and so does
##                     bench-report afterwards
##
## make bench-streams  clients over TCP and TLS against coturn, as root; QUICK=1, ONLY=ROW
bench bench-streams bench-report: build
	@$(MAKE) -s -C bench $@

## make flood          a million spoofed requests against a server, as root (bench/README.md); RATE=N
flood: build
	@$(MAKE) -s -C bench flood

## make floods         floods of other kinds against a server, as root (bench/README.md); RATE=N SECONDS=N
floods: build
	@$(MAKE) -s -C bench floods

## make fleet          five nodes under traffic: cut, joined, drained, upgraded, killed
fleet: test-deps
	@rebar3 ct --suite test/fleet_SUITE --case five_nodes

## make fleet-simulation  what a fleet of up to 1,000 nodes tells and remembers (docs/scaling.md)
fleet-simulation: build
	@escript test/fleet_simulation.escript _build/default/lib/meerkat/ebin 3 10 100 1000

## make release        a tarball with all of it, Erlang too, its checksum and its parts (rel/pack)
release: build
	@rel/pack

## make deb            the Debian package for the Debian this runs on (rel/deb)
deb:
	@rel/deb

## make packages       build, install, upgrade and purge it in chroots of bookworm and trixie, as root;
##                     WRITE=1
packages:
	@test/packages.sh

## make newcomer       does what the start pages of operators and embedders say on a bare bookworm and
##                     trixie, in chroots, as root (test/newcomer.sh); WRITE=1
newcomer:
	@test/newcomer.sh

## make image          build the Dockerfile and test the image, as root on Debian (some minutes)
image:
	@test/image.sh

## make distributions  build, serve and test on Debian 13 and unstable with their own Erlang, gcc and
##                     libraries, in chroots, as root (docs/building.md); NAMES=sid, REFRESH=1,
##                     RESUME=1, WRITE=1
distributions:
	@test/distributions.sh $(NAMES)

## make tag            tag what is committed as the version it is, with its part of CHANGELOG.md
tag:
	@.ci/tag

## make package        the package for hex, below _build/package
package: build
	@.ci/package

## make docs           the API reference as documentation chunks, for h() in a shell and for ex_doc
docs: build
	@.ci/docs --always

## make check          format, cross references, types, who includes what, generated files
check: test-deps
	@.ci/check

## make gen            make again what is generated from tables
gen: build
	@.ci/gen

## make clean          remove all that was built
clean:
	@rm -rf _build examples/stream/_build
	@$(MAKE) -s -C c_src clean

help:
	@sed -n 's/^## //p' $(firstword $(MAKEFILE_LIST))

.PHONY: test-deps demo-deps
test-deps demo-deps:
	@.ci/deps $(@:-deps=)
	@rebar3 compile
