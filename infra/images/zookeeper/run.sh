# ZOO_TICK_TIME is tickTime, ZOO_ADMIN__SERVER_PORT is admin.serverPort: ZooKeeper's names have capitals and dots.
set -eu
source /settings.sh
config=$(mktemp)
settings ZOO_ 's/__/./g; s/_(.)/\U\1/g' >"$config"
exec java $JAVA_OPTS -cp '/conf:/jars/*' org.apache.zookeeper.server.quorum.QuorumPeerMain "$config"
