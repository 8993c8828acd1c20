// A broker that grants every request an AWS credential, as `docs/api.md` shapes it. It stands in where a test is about
// the client. Prints its URL, then every form that it gets, as JSON lines.
import { createServer } from "node:http";

const server = createServer(async (request, response) => {
  const url = `http://127.0.0.1:${server.address().port}`;
  let body = "";
  for await (const chunk of request) body += chunk;
  const form = new URLSearchParams(body);
  if (request.method === "POST") console.log(JSON.stringify({ path: request.url, ...Object.fromEntries(form) }));
  const answers = {
    "/.well-known/claimbound": { audience: url, issuer: url, token_endpoint: `${url}/token` },
    "/token": {
      access_token: "canary-lease-handle-0123456789",
      issued_token_type: "urn:claimbound:params:oauth:token-type:lease",
      token_type: "N_A",
      expires_in: 900,
      credential: {
        kind: "aws",
        access_key_id: "ASIACANARYCANARY1234",
        secret_access_key: "canary/secret+access/key=1234567890",
        session_token: "canary-session-token-canary-session-token",
        expiration: new Date(Date.now() + 900_000).toISOString(),
        region: "eu-central-1",
        assumed_role_arn: "arn:aws:sts::111111111111:assumed-role/payments-deploy/1-0192",
      },
      decision_id: "0192-decision",
      lease_id: "0192-lease",
      role: form.get("audience"),
      mapping: "payments-production",
      mappings_version: "5f3a",
    },
    "/revoke": {},
  };
  response.writeHead(answers[request.url] ? 200 : 404, { "content-type": "application/json" });
  response.end(JSON.stringify(answers[request.url] ?? {}));
});
server.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}`));
