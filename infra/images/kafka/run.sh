# KAFKA_LOG_RETENTION_HOURS is log.retention.hours: every setting of a broker can come this way.
set -eu
source /settings.sh
config=$(mktemp)
settings KAFKA_ 's/_/./g' >"$config"
exec java $JAVA_OPTS -Dlog4j.configuration=file:/conf/log4j.properties -javaagent:$(echo /jars/jmx_prometheus_javaagent-*.jar)=7071:/conf/jmx.yml \
  -cp '/jars/*' kafka.Kafka "$config"
