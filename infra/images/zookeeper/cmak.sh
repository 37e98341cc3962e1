# Tells CMAK of a cluster, by the record that it reads. In: ZooKeeper's address, the cluster's name. Told once more, it stays as it is.
set -eu
record='{"name":"'$2'","curatorConfig":{"zkConnect":"'$1'","zkMaxRetry":100,"baseSleepTimeMs":100,"maxSleepTimeMs":1000},"enabled":true,"kafkaVersion":"2.4.0","jmxEnabled":false,"jmxSsl":false,"pollConsumers":true,"filterConsumers":false,"logkafkaEnabled":false,"activeOffsetCacheEnabled":true,"displaySizeEnabled":false}'
java -Xmx64m -cp '/conf:/jars/*' org.apache.zookeeper.ZooKeeperMain -server "$1" <<END
create /kafka-manager
create /kafka-manager/configs
create /kafka-manager/configs/$2 $record
quit
END
