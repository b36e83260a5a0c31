# PYTHON=/path/to/python3.12 chooses the Python for .venv/; otherwise tools/build.sh finds one.
# ROS_DISTRO=kilted chooses the ROS 2 distribution. Only from the command line: a sourced ROS installation sets it too.
.PHONY: help build demo test soak fuzz lint picture reference architecture docs hashes audit coverage clean
.DEFAULT_GOAL := help
export PYTHON
# processes that test side by side
WORKERS = $$(($$(nproc) < 7 ? $$(nproc) + 1 : 8))
# inputs per reader, the first of them, and names of readers (one word each: compressed-message); none: all
N ?= 100000
SEED ?= 0
READERS ?=
ifeq ($(origin ROS_DISTRO),command line)
export VIT_ROS_DISTRO := $(ROS_DISTRO)
endif

help:
	@echo 'make demo         two simulated fingers, classified live by the ROS 2 node (DEMO_SECONDS=20 make demo: ends after 20 s)'
	@echo 'make test         all tests, on the installed package with real messages'
	@echo 'make soak         every fault of the suite on a real node, for docs/faults.md (MINUTES=60 make soak: then 60 min of random ones)'
	@echo 'make build        only the set-up: .venv/, build/, install/; then  . ./env.sh  enters the environment'
	@echo 'make fuzz         100,000 damaged inputs for every reader of files and messages (N=1000 READERS=checkpoint make fuzz)'
	@echo 'make lint         ruff, mypy and the layer rule'
	@echo 'make picture      docs/demo.svg, the picture of the demo in the README'
	@echo 'make reference    the generated pages of docs/'
	@echo 'make architecture docs/architecture.svg'
	@echo 'make docs         the documentation as a site in build/docs/; warnings and broken links are errors'
	@echo 'make coverage     all tests with branch coverage of the package; the list of what is not covered is in build/coverage/'
	@echo '                  (make coverage TESTS=test/model: some; make coverage TESTS=test/model KEEP=1: adds to earlier runs)'
	@echo 'make hashes       hashes/, after a pinned version has changed'
	@echo 'make audit        known vulnerabilities of the pinned packages (needs a network)'
	@echo 'make clean        remove everything that make created'

build:
	@tools/build.sh
	@$(if $(filter build,$(MAKECMDGOALS)),echo 'next: . ./env.sh',:)

demo: build
	@. ./env.sh && exec python -m vit_tactile_ros.demo

# A test of nodes that failed beside others runs once more alone: DDS discovery can be late on busy cores.
test: build
	@. ./env.sh && python -m pytest test --ignore=test/ros --dist loadfile -n $(WORKERS)
	@. ./env.sh && { python -m pytest test/ros --dist loadfile -n $(WORKERS) || \
	    { echo '== once more, alone:'; python -m pytest test/ros --last-failed --last-failed-no-failures none; }; }

# Other checkpoints: CHECKPOINT=/path/to/it.safetensors make soak PAGES=/tmp
MINUTES ?= 0
PAGES ?= docs
soak: build
	@. ./env.sh && python tools/soak.py --page $(PAGES)/faults.md $(if $(CHECKPOINT),--checkpoint $(CHECKPOINT))
	@[ $(MINUTES) = 0 ] || { . ./env.sh && python tools/soak.py --minutes $(MINUTES) \
	    --soak_page $(PAGES)/results/soak.md $(if $(CHECKPOINT),--checkpoint $(CHECKPOINT)); }

# Stopped and run again, it resumes; SEED=1 gives other inputs. Failing ones are kept in fuzz/.
fuzz: build
	@. ./env.sh && exec python test/helpers/fuzz.py --count $(N) --seed $(SEED) $(foreach reader,$(READERS),"$(reader)")

lint: build
	@tools/lint.sh

picture: build
	@. ./env.sh && exec python -m vit_tactile_ros.demo --picture docs/demo.svg

reference: build
	@. ./env.sh && exec python tools/reference.py

architecture:
	@python3 tools/architecture_figure.py

docs:
	@tools/docs.sh

coverage: build
	@WORKERS=$(WORKERS) tools/coverage.sh $(TESTS)

hashes:
	@tools/hashes.sh

audit:
	@tools/audit.sh

clean:
	rm -rf fuzz .venv .venv-docs build install log .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find vit_tactile_ros launch test -name __pycache__ -type d -prune -exec rm -rf {} +
