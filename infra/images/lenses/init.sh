# Writes Lenses' settings: it takes a password only as bcrypt, which its database can compute. In: variables, the file. Out: the file.
set -eu
hash=$(psql -qtA -v ON_ERROR_STOP=1 -v "password=$LENSES_PASSWORD" <<'END'
CREATE EXTENSION IF NOT EXISTS pgcrypto;
SELECT crypt(:'password', gen_salt('bf', 10));
END
)
cat >"$1" <<END
http: { address: ":9991", secureSessionCookies: false }
agents: { address: ":10000" }
auth:
  administrators: [admin]
  users: [{ username: admin, password: "$hash" }]
database: { host: "$PGHOST:5432", username: "$PGUSER", password: "$PGPASSWORD", database: "$PGDATABASE" }
license: { key: "$LENSES_LICENSE", acceptEULA: $LENSES_ACCEPT_EULA }
logger: { mode: text }
metrics: { prometheusAddress: ":9090" }
END
