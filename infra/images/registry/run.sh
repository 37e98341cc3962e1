# Every setting of the registry, and of Quarkus below it, is an environment variable already: APICURIO_X_Y, QUARKUS_X_Y.
exec java $JAVA_OPTS -jar /registry/quarkus-run.jar
