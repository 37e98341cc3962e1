# PROMETHEUS_STORAGE_TSDB_RETENTION_TIME=15d is --storage.tsdb.retention.time=15d, PROMETHEUS_WEB_ENABLE__LIFECYCLE=true --web.enable-lifecycle.
set -eu
source /settings.sh
mapfile -t flags < <(settings PROMETHEUS_ 's/__/-/g; s/_/./g' | sed 's/^/--/; s/=true$//')
exec prometheus --config.file=/conf/prometheus.yml --storage.tsdb.path=/data "${flags[@]}"
