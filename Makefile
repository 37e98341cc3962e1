# `make` alone lists the targets. Each target's line after ## is its whole description.

bin   := .venv/bin
stamp := .venv/.made-from-$(shell cksum < requirements.lock | tr ' ' -)
peers := .bench/.made-from-$(shell cksum < bench/requirements.lock | tr ' ' -)

.PHONY: help setup init demo up down ps logs doctor clean-data flow dashboard explain plan reset verify repair replay-dead test-kpi test test-cluster check fix bench bench-setup bench-scale bench-latency soak chaos load lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(stamp) ## make .venv from requirements.lock, hashes checked (1 minute; then nothing)

init: $(stamp) ## make this clone a project of your own: its name, a kpi.toml from the topics on the cluster; asks (NAME=my-kpis DEMO=remove YES=1)
	@YES=$(YES) $(bin)/python -m infra.init "$(NAME)" $(if $(DEMO),--demo "$(DEMO)")

demo: $(stamp) ## real Kafka, simulated events, the KPI flow and live charts, until Ctrl-C (DASHBOARD_PORT=5006, DEMO_SECONDS=60)
	@$(bin)/python -m infra.embedded.demo

up: $(stamp) ## the whole cluster in Docker: ZooKeeper, Kafka x3, registry, monitor, Prometheus, Grafana, ... (APPS=1 LENSES=1 SCALE=1)
	@$(bin)/python -m infra.cluster up $(if $(filter 1,$(SCALE)),--scale) $(if $(filter 1,$(APPS)),--profile apps) $(if $(filter 1,$(LENSES)),--profile lenses)

down: $(stamp) ## stop the cluster; its data stays
	@$(bin)/python -m infra.cluster down

ps: $(stamp) ## which services of the cluster run, and how they are
	@$(bin)/python -m infra.cluster ps

logs: $(stamp) ## what a service of the cluster says, until Ctrl-C (SERVICE=kafka1)
	@$(bin)/python -m infra.cluster logs $(SERVICE)

doctor: $(stamp) ## walk from this machine over broker, registry, topic and flow to the dashboard, and name the first broken hop
	@$(bin)/python -m infra.cluster doctor

clean-data: $(stamp) ## remove the cluster and everything it remembers, after asking (YES=1)
	@YES=$(YES) $(bin)/python -m infra.cluster clean-data

flow: $(stamp) ## the KPI flow as in production: exactly-once, restarted after a crash, until Ctrl-C (KPI_WORKERS=1, KPI_PROCESSES=1)
	@exec $(bin)/python -m flows.supervise

dashboard: $(stamp) ## the live charts, with /healthz, /metrics and /export.csv, until Ctrl-C (DASHBOARD_PORT=5006, DASHBOARD_SESSIONS=100)
	@exec $(bin)/python -m serve

explain: $(stamp) ## what is computed of a topic and why, as TOML for kpi.toml; of every topic without one (TOPIC=shop.orders)
	@$(bin)/python -m flows.inquiry explain $(if $(TOPIC),"$(TOPIC)")

plan: $(stamp) ## what a changed kpi.toml changes before it runs: topics, schemas, KPIs, and whether the state is kept
	@$(bin)/python -m flows.inquiry plan

reset: $(stamp) ## make the flow begin anew: says what that means, and asks (YES=1)
	@YES=$(YES) exec $(bin)/python -m flows.supervise --reset

verify: $(stamp) ## recompute published final rows from the source topic, with another program, and compare (TOPIC=shop.orders WINDOW=1m)
	@[ -n "$(TOPIC)" ] || { echo "make verify: needs a source topic: make verify TOPIC=shop.orders WINDOW=1m" >&2; exit 2; }
	@$(bin)/python -m audit.verify "$(TOPIC)" $(if $(WINDOW),"$(WINDOW)")

repair: $(stamp) ## publish the windows of late records once more, with them, after showing what changes (TOPIC=shop.orders YES=1)
	@[ -n "$(TOPIC)" ] || { echo "make repair: needs a source topic: make repair TOPIC=shop.orders" >&2; exit 2; }
	@$(bin)/python -m audit.repair "$(TOPIC)" $(if $(filter 1,$(YES)),--yes)

replay-dead: $(stamp) ## write dead letters to their source topic again, after a fix (TOPIC=shop.orders REASON=schema,malformed YES=1)
	@[ -n "$(TOPIC)" ] || { echo "make replay-dead: needs a source topic: make replay-dead TOPIC=shop.orders REASON=schema" >&2; exit 2; }
	@$(bin)/python -m audit.replay "$(TOPIC)" $(if $(REASON),"$(REASON)") $(if $(filter 1,$(YES)),--yes)

test-kpi: $(stamp) ## events of a file through the real flow, without a cluster, and its rows compared (EVENTS=e.jsonl EXPECT=r.jsonl UPDATE=1 SCHEMA=schemas TOPIC=x)
	@[ -n "$(EVENTS)" ] || { echo "make test-kpi: needs events: make test-kpi EVENTS=events.jsonl EXPECT=rows.jsonl" >&2; exit 2; }
	@$(bin)/python -m kpitest "$(EVENTS)" $(if $(EXPECT),--expect "$(EXPECT)") $(if $(filter 1,$(UPDATE)),--update) $(if $(SCHEMA),--schema "$(SCHEMA)") $(if $(TOPIC),--topic "$(TOPIC)")

test: $(stamp) ## run every test, real broker, registry and browser included
	@$(bin)/python -m infra.embedded --download
	@$(bin)/python -m pytest tests/integration/dashboard/test_latency.py # alone: it measures a second
	@$(bin)/python -m pytest --numprocesses 3 --dist loadfile tests/integration/test_chaos*.py # apart: others measure seconds too
	@$(bin)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder --ignore-glob '*/test_chaos*.py' \
		--ignore tests/integration/dashboard/test_latency.py

test-cluster: $(stamp) ## build the cluster, start it, and prove that it works; needs Docker (CLUSTER_KEEP=1 leaves it running)
	@$(bin)/python -m pytest -v --durations=0 tests/cluster

check: $(stamp) ## ruff, formatting, mypy --strict, and that imports point one way
	@$(bin)/ruff check .
	@$(bin)/ruff format --check .
	@$(bin)/mypy
	@$(bin)/python -m pytest -q tests/test_layers.py

fix: $(stamp) ## mend what ruff can mend, and format
	@$(bin)/ruff check --fix .
	@$(bin)/ruff format .

bench: $(stamp) bench-setup ## the flow beside its peers on the same data, to docs/benchmark.md (15 minutes; all peers are downloaded first, 260 MB; BENCH="--events 400000 --rounds 1 --only flow")
	@exec $(bin)/python -m bench $(BENCH)

bench-setup: $(stamp) $(peers) ## what the peers of make bench need, and what draws its picture
	@$(bin)/python -m bench.peers.java --download

bench-scale: $(stamp) $(peers) ## what the flow costs against events, groups, windows, partitions, ..., to docs/scale.md (20 minutes; CURVES="--quick", "--only groups --rounds 3")
	@$(bin)/python -m bench.scale $(CURVES)
	@.bench/bin/python -m bench.draw .kpi/bench/scale.json docs/scale.svg

bench-latency: $(stamp) $(peers) ## how long an event takes to its KPI row, at half of what the flow can bear (6 minutes; RATE=50000 DURATION=120)
	@$(bin)/python -m bench.latency $(if $(RATE),--rate "$(RATE)") $(if $(DURATION),--seconds "$(DURATION)")
	@.bench/bin/python -m bench.draw_latency .kpi/bench/latency.json docs/latency.svg

soak: $(stamp) $(peers) ## what memory and disk of the flow do under half of what it can bear, 100,000 groups (5 minutes; MINUTES=30 RATE=50000)
	@$(bin)/python -m bench.soak $(if $(RATE),--rate "$(RATE)") $(if $(MINUTES),--minutes "$(MINUTES)")
	@.bench/bin/python -m bench.draw_soak .kpi/bench/soak.json docs/soak.svg

chaos: $(stamp) ## kill, starve and poison a running flow on three real brokers, then show a table (1 hour; CHAOS="--short", "--only kills")
	@$(bin)/python -m tests.chaos $(CHAOS)

load: $(stamp) ## 100 pages on a real broker and server, and what they cost (20 minutes; LOAD="--short", "--flow 50000", "--profile")
	@$(bin)/python -m tests.load $(LOAD)

compile := $(bin)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --fork-strategy fewest \
	--generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"

lock: $(stamp) ## make every lock anew: what the project, its images and their jars are made of
	@$(compile) pyproject.toml --extra dev --output-file requirements.lock
	@$(compile) pyproject.toml --constraint requirements.lock --output-file infra/images/app/requirements.lock
	@$(compile) infra/images/java/requirements.in --output-file infra/images/java/requirements.lock
	@$(compile) bench/requirements.in --output-file bench/requirements.lock
	@for home in infra/embedded infra/images/kafka infra/images/zookeeper bench/peers/kafka_streams bench/peers/flink_sql; do (cd $$home && $(CURDIR)/$(bin)/jgo --resolver python lock) || exit; done

clean: ## remove .venv and everything else that the targets made, but for .kpi: it holds where flows are (make reset)
	@rm -rf .venv .bench .demo .chaos .load .cluster .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(stamp):
	@for python in python3 python3.12 python3.11 ""; do \
		$${python:-true} -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && break; \
	done; \
	[ -n "$$python" ] || { echo "make: needs Python 3.11 or 3.12 on the PATH (Debian: apt install python3 python3-venv)" >&2; exit 1; }; \
	$$python -c 'import ensurepip' 2>/dev/null || { echo "make: this Python has no venv (Debian: apt install python3-venv)" >&2; exit 1; }; \
	echo "making .venv with $$($$python --version) ..." && rm -rf .venv && $$python -m venv .venv
	@$(bin)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	@$(bin)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index --editable .
	@touch $@

$(peers): bench/requirements.lock
	@echo "making .bench ..." && rm -rf .bench && $(bin)/python -m venv .bench
	@.bench/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement bench/requirements.lock
	@touch $@
