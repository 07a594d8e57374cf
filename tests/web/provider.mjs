// A provider of OpenID Connect for the tests of logins: oidc-provider, as it is, with people who log in without a form.
// What a provider must not do is done by POST /mode: the next tokens are spoiled then.
//
//     node provider.mjs FOLDER_WITH_NODE_MODULES REDIRECT_URI AUTH_METHOD
//
// It prints its issuer when it listens. A browser says who it is by the cookie `who`.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [folder, redirect, method] = process.argv.slice(2);
const require = createRequire(pathToFileURL(`${folder}/package.json`));
const load = async (name) => import(pathToFileURL(require.resolve(name)));
const { default: Provider } = await load("oidc-provider");
const jose = await load("jose");

const pair = async () => jose.generateKeyPair("RS256", { extractable: true });
const own = await pair();
const foreign = await pair();
const jwk = { ...(await jose.exportJWK(own.privateKey)), use: "sig", alg: "RS256", kid: "own" };

const people = {
  ann: { email: "ann@example.com", email_verified: true },
  eve: { email: "ann@example.com", email_verified: false },
  bob: { email: "bob@elsewhere.example", email_verified: true },
};

const server = createServer();
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, {
  clients: [{
    client_id: "fleet",
    client_secret: "the secret of the client: & + %",
    redirect_uris: [redirect],
    token_endpoint_auth_method: method,
  }],
  clientAuthMethods: [method],
  jwks: { keys: [jwk] },
  claims: { email: ["email", "email_verified"] },
  cookies: { keys: ["of the test"] },
  features: { devInteractions: { enabled: false } },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...people[id] }) }),
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  pkce: { required: () => true },
});

let mode = "";
// Spoils an ID token that the provider has made: everything else of it stays.
const spoiled = async (token) => {
  const claims = jose.decodeJwt(token);
  let key = own.privateKey;
  if (mode === "nonce") claims.nonce = "of another login";
  if (mode === "expired") claims.exp = Math.floor(Date.now() / 1000) - 120;
  if (mode === "audience") claims.aud = "another";
  if (mode === "foreign") key = foreign.privateKey;
  return new jose.SignJWT(claims).setProtectedHeader({ alg: "RS256", kid: "own" }).sign(key);
};
provider.use(async (ctx, next) => {
  await next();
  if (ctx.oidc?.route === "token" && ctx.body?.id_token && mode) {
    ctx.body = { ...ctx.body, id_token: await spoiled(ctx.body.id_token) };
  }
});

const interact = async (request, response) => {
  const who = /(?:^|; )who=(\w+)/.exec(request.headers.cookie ?? "")?.[1];
  const details = await provider.interactionDetails(request, response);
  if (!who) return provider.interactionFinished(request, response, { error: "access_denied" });
  if (details.prompt.name === "login") {
    return provider.interactionFinished(request, response, { login: { accountId: who } });
  }
  const grant = new provider.Grant({ accountId: details.session.accountId, clientId: details.params.client_id });
  grant.addOIDCScope(details.params.scope);
  const grantId = await grant.save();
  return provider.interactionFinished(request, response, { consent: { grantId } });
};

const callback = provider.callback();
server.on("request", (request, response) => {
  const fail = (error) => { console.error(error); response.statusCode = 500; response.end(String(error)); };
  if (request.url.startsWith("/interaction/")) return interact(request, response).catch(fail);
  if (request.method === "POST" && request.url.startsWith("/mode/")) {
    mode = request.url.slice("/mode/".length);
    return response.end();
  }
  return callback(request, response);
});
console.log(issuer);
