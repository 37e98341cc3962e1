"""`make up` and what belongs to it: the cluster of docker-compose.yml, from checks of the machine to a table of addresses."""
