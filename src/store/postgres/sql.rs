//! The statements of a writer's connection, prepared once: each stands beside its name.

use futures_util::future::try_join_all;
use tokio_postgres::{Client, Error, Statement};

macro_rules! statements {
    ($($name:ident: $sql:literal,)*) => {
        /// All of them.
        pub(super) struct Prepared {
            $(pub(super) $name: Statement,)*
        }

        impl Prepared {
            pub(super) async fn new(client: &Client) -> Result<Self, Error> {
                let mut all = try_join_all([$($sql),*].map(|sql| client.prepare(sql))).await?.into_iter();
                let mut next = || all.next().expect("as many as were sent");
                Ok(Self { $($name: next(),)* })
            }
        }
    };
}

statements! {
    seat: "SELECT batch, sequence, head FROM incarnations WHERE id = $1 FOR UPDATE",
    // Before the leases: whoever ends a family sees what renewals opened before that.
    families: "SELECT * FROM families WHERE id = ANY($1) ORDER BY id FOR UPDATE",
    // Of a lease whose token is exchanged, all that it came of, too: whoever ends one of those waits, and then sees what was opened.
    leases: "SELECT id, state, token, handle, possession, family, parent, expires FROM leases
     WHERE family = ANY($2) OR id = ANY($1::bytea[] || ARRAY(
         WITH RECURSIVE up (id, parent) AS (SELECT id, parent FROM leases WHERE id = ANY($3)
                                            UNION SELECT l.id, l.parent FROM leases l JOIN up ON l.id = up.parent)
         SELECT id FROM up))
     ORDER BY id FOR UPDATE",
    // After the leases that end are locked: all that came of them is there to be seen.
    kin: "SELECT id, state, token, handle, possession, family, parent, expires FROM leases WHERE id = ANY(ARRAY(
         WITH RECURSIVE down (id) AS (SELECT id FROM leases WHERE id = ANY($1) OR family = ANY($2)
                                      UNION SELECT l.id FROM leases l JOIN down ON l.parent = down.id)
         SELECT id FROM down))
     ORDER BY id FOR UPDATE",
    reserve: "INSERT INTO spent SELECT token, keep_until, request, state, 0
     FROM unnest($1::bytea[], $2::bigint[], $3::bytea[], $4::text[]) AS t (token, keep_until, request, state)
     ON CONFLICT DO NOTHING RETURNING token",
    uses: "INSERT INTO uses SELECT counter, 0, 0 FROM unnest($1::bytea[]) AS t (counter)
     ON CONFLICT (counter) DO UPDATE SET used = uses.used RETURNING counter, until, used",
    // After the insert: a sweep that removed one of these tokens before it has said so before this statement begins.
    forgotten: "SELECT forgotten, (SELECT max(began) FROM epochs) AS adopted FROM sweeps",
    spent: "SELECT token, request, state, attempts FROM spent WHERE token = ANY($1) ORDER BY token FOR UPDATE",
    move_spent: "UPDATE spent SET request = t.request, state = t.state, attempts = t.attempts
     FROM unnest($1::bytea[], $2::bytea[], $3::text[], $4::bigint[]) AS t (token, request, state, attempts)
     WHERE spent.token = t.token",
    free: "DELETE FROM spent WHERE token = ANY($1)",
    move_uses: "UPDATE uses SET until = t.until, used = t.used
     FROM unnest($1::bytea[], $2::bigint[], $3::bigint[]) AS t (counter, until, used) WHERE uses.counter = t.counter",
    open_leases: "INSERT INTO leases (id, role, mapping, team, principal_issuer, principal_id, opened, expires, handle, state, token,
                         token_keep_until, possession, principal_name, repository_id, owner_id, run_id, person, family,
                         status_list, status_index, actor, actor_repository, actor_person, parent, handoff)
     SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[],
                          $8::bigint[], $9::text[], $10::text[], $11::bytea[], $12::bigint[], $13::bytea[], $14::text[],
                          $15::text[], $16::text[], $17::text[], $18::bytea[], $19::bytea[], $20::bytea[],
                          $21::bigint[], $22::text[], $23::text[], $24::bytea[], $25::bytea[], $26::boolean[])",
    move_leases: "UPDATE leases SET state = t.state, handle = t.handle, possession = t.possession
     FROM unnest($1::bytea[], $2::text[], $3::text[], $4::bytea[]) AS t (id, state, handle, possession)
     WHERE leases.id = t.id",
    open_families: "INSERT INTO families SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::text[], $5::bigint[],
                                               $6::bigint[], $7::bytea[], $8::bytea[], $9::bigint[], $10::boolean[])",
    move_families: "UPDATE families SET current = t.current, previous = t.previous, since = t.since, ended = t.ended
     FROM unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::bigint[], $5::boolean[])
         AS t (id, current, previous, since, ended) WHERE families.id = t.id",
    keep_lists: "INSERT INTO status_lists SELECT * FROM unnest($1::bytea[], $2::bigint[]) ON CONFLICT DO NOTHING",
    fix: "INSERT INTO fixed SELECT * FROM unnest($1::text[], $2::text[])",
    keep: "INSERT INTO folders SELECT * FROM unnest($1::bytea[], $2::bytea[]) ON CONFLICT DO NOTHING",
    records: "INSERT INTO records (incarnation, sequence, link, leaf, body, details, decision)
     SELECT $1, sequence, link, leaf, body, details, decision
     FROM unnest($2::bigint[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[], $7::bytea[])
         AS t (sequence, link, leaf, body, details, decision) ORDER BY sequence",
    advance: "UPDATE incarnations SET batch = $2, sequence = $3, head = $4 WHERE id = $1",
    sweep_spent: "WITH gone AS MATERIALIZED (SELECT token FROM spent WHERE keep_until < $1 ORDER BY keep_until LIMIT $2
                                FOR UPDATE SKIP LOCKED)
     DELETE FROM spent USING gone WHERE spent.token = gone.token RETURNING keep_until",
    sweep_uses: "WITH gone AS MATERIALIZED (SELECT counter FROM uses WHERE until <= $1 ORDER BY until LIMIT $2
                                FOR UPDATE SKIP LOCKED)
     DELETE FROM uses USING gone WHERE uses.counter = gone.counter",
    open_session: "INSERT INTO sessions VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (session) DO UPDATE SET
         operator = excluded.operator, sign_in = excluded.sign_in, may = excluded.may, binding = excluded.binding,
         expires = excluded.expires, person = excluded.person",
    end_sessions: "DELETE FROM sessions WHERE session = ANY($1)",
    sweep_sessions: "WITH gone AS MATERIALIZED (SELECT session FROM sessions WHERE expires <= $1 ORDER BY expires LIMIT $2
                                FOR UPDATE SKIP LOCKED)
     DELETE FROM sessions USING gone WHERE sessions.session = gone.session",
    suspensions: "SELECT subject, id, until FROM suspensions WHERE subject = ANY($1)",
    suspend: "INSERT INTO suspensions SELECT * FROM unnest($1::bytea[], $2::bytea[], $3::text[], $4::text[], $5::text[],
                                                  $6::bigint[], $7::bigint[], $8::text[], $9::text[])
     ON CONFLICT (subject) DO UPDATE SET id = excluded.id, scope = excluded.scope, issuer = excluded.issuer,
         name = excluded.name, since = excluded.since, until = excluded.until, operator = excluded.operator,
         reason = excluded.reason",
    resume: "DELETE FROM suspensions WHERE subject = ANY($1)",
    deny: "INSERT INTO denials VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (denial) DO UPDATE SET
         before = greatest(denials.before, excluded.before), until = greatest(denials.until, excluded.until)",
    sweep_denials: "DELETE FROM denials WHERE until <= $1",
    sweep_persons: "WITH over AS MATERIALIZED (SELECT id FROM leases WHERE person IS NOT NULL AND expires <= $1 AND NOT EXISTS
                                    (SELECT 1 FROM families
                                     WHERE families.id = leases.id AND NOT ended AND families.expires > $1)
                                ORDER BY expires LIMIT $2 FOR UPDATE SKIP LOCKED)
     UPDATE leases SET person = NULL FROM over WHERE leases.id = over.id",
    sweep_acting_persons: "WITH over AS MATERIALIZED (SELECT id FROM leases WHERE actor_person IS NOT NULL AND expires <= $1
                                ORDER BY expires LIMIT $2 FOR UPDATE SKIP LOCKED)
     UPDATE leases SET actor_person = NULL FROM over WHERE leases.id = over.id",
    adopt: "WITH over AS (UPDATE families SET ended = true WHERE NOT ended), out AS (DELETE FROM sessions)
     INSERT INTO epochs VALUES ($1, $2, $3, $4)",
    holds: "SELECT coalesce((SELECT id FROM epochs ORDER BY number DESC LIMIT 1) = $1, false) AS newest,
                   EXISTS (SELECT FROM epochs WHERE id = $1 OR instead_of = $1) AS known,
                   coalesce((SELECT link FROM records WHERE position = $2) = $3, false) AS there",
    keep_nodes: "INSERT INTO tree SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[])
     ON CONFLICT DO NOTHING",
    keep_checkpoint: "INSERT INTO checkpoints VALUES ($1, $2, $3) ON CONFLICT (epoch) DO UPDATE
     SET size = excluded.size, note = excluded.note WHERE excluded.size > checkpoints.size",
    // Shared: whoever takes one back waits for the grants under way, and who comes after sees it gone.
    standing: "SELECT key, rule, until, subjects FROM standing WHERE key = ANY($1) ORDER BY key FOR SHARE",
    keep_note: "INSERT INTO notes VALUES ($1, $2, $3) ON CONFLICT (key) DO UPDATE SET text = excluded.text, until = excluded.until",
    sweep_notes: "WITH gone AS MATERIALIZED (SELECT key FROM notes WHERE until <= $1 ORDER BY until LIMIT $2
                                FOR UPDATE SKIP LOCKED)
     DELETE FROM notes USING gone WHERE notes.key = gone.key",
    sweep_lists: "DELETE FROM status_lists WHERE until < $1",
}
