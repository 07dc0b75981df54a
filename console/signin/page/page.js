"use strict";
// The page of people who sign in. What is approved is what is shown: the challenge for the key is computed here, from the
// text on the page, and not taken from the server.

const el = (id) => document.getElementById(id);
const b64 = (buf) => btoa(String.fromCharCode(...new Uint8Array(buf)));
const b64url = (buf) => b64(buf).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
const hex = (buf) => [...new Uint8Array(buf)].map((b) => b.toString(16).padStart(2, "0")).join("");
const utf8 = (text) => new TextEncoder().encode(text);
const sha256 = (data) => crypto.subtle.digest("SHA-256", data);

let session = null;

function say(text) { el("message").textContent = text; }

async function call(method, path, body) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (session) headers["X-Bulkhead-Session"] = session.csrf;
  const res = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const doc = await res.json();
  if (!res.ok) throw new Error([doc.detail, doc.hint].filter(Boolean).join(". "));
  return doc;
}

// attempt runs something a person asked for, and says what went wrong.
async function attempt(what) {
  say("");
  try { await what(); } catch (e) { say(e.message || String(e)); }
}

function decoded(options) {
  const out = { ...options, challenge: bytes(options.challenge) };
  if (options.user) out.user = { ...options.user, id: bytes(options.user.id) };
  for (const list of ["allowCredentials", "excludeCredentials"]) {
    if (options[list]) out[list] = options[list].map((c) => ({ ...c, id: bytes(c.id) }));
  }
  return out;
}

function encoded(credential) {
  const r = credential.response;
  const response = { clientDataJSON: b64url(r.clientDataJSON) };
  if (r.attestationObject) response.attestationObject = b64url(r.attestationObject);
  if (r.authenticatorData && r.signature) {
    response.authenticatorData = b64url(r.authenticatorData);
    response.signature = b64url(r.signature);
    if (r.userHandle) response.userHandle = b64url(r.userHandle);
  }
  return { id: credential.id, rawId: b64url(credential.rawId), type: credential.type, response, clientExtensionResults: credential.getClientExtensionResults() };
}

async function signIn() {
  const begun = await call("POST", "/signin/key/begin", {});
  const credential = await navigator.credentials.get({ publicKey: decoded(begun.public_key) });
  await call("POST", "/signin/key/finish", { id: begun.id, response: encoded(credential) });
  await show();
}

async function signOut() {
  await call("POST", "/signin/out", {});
  session = null;
  await show();
}

// challengeOf is the SHA-256 of the statement that an approval signs (doc/signin.md).
async function challengeOf(request, payload) {
  const action = utf8(request.action + "\n");
  const all = new Uint8Array(action.length + payload.length);
  all.set(action);
  all.set(payload, action.length);
  const digest = hex(await sha256(all));
  return sha256(utf8("bulkhead approval v1\n" + request.id + "\n" + request.action + "\n" + digest + "\n"));
}

async function approve(request, payload) {
  const challenge = await challengeOf(request, payload);
  const c = await navigator.credentials.get({ publicKey: { challenge, rpId: session.rp_id, userVerification: "required", timeout: 120000 } });
  const got = await call("POST", "/api/v1/approvals/" + encodeURIComponent(request.id), { assertion: {
    credential_id: b64(c.rawId), authenticator_data: b64(c.response.authenticatorData), client_data: b64(c.response.clientDataJSON), signature: b64(c.response.signature) } });
  await show();
  say(got.state === "open" ? "Approved: " + got.approvals.length + " of " + got.needed + "." : "Approved, and " + got.state + ".");
}

function card(request) {
  const payload = bytes(request.payload);
  const a = document.createElement("article");
  a.dataset.request = request.id;
  const add = (tag, text) => { const e = document.createElement(tag); e.textContent = text; a.append(e); return e; };
  add("h3", request.action);
  add("p", request.actor + ": " + request.reason);
  add("pre", new TextDecoder().decode(payload));
  add("p", "Approved by " + (request.approvals.join(", ") || "nobody") + "; takes " + request.needed + ".");
  const b = add("button", "Approve with my security key");
  b.type = "button";
  b.addEventListener("click", () => attempt(() => approve(request, payload)));
  return a;
}

async function show() {
  try { session = await call("GET", "/signin/session"); } catch { session = null; }
  el("outside").hidden = session !== null;
  el("inside").hidden = session === null;
  if (!session) return;
  el("who").textContent = session.operator;
  el("how").textContent = session.method;
  el("roles").textContent = session.roles.join(", ") || "admin";
  el("until").textContent = session.expires_at;
  const open = (await call("GET", "/api/v1/approvals")).approvals.filter((r) => r.state === "open");
  el("requests").replaceChildren(...open.map(card));
  el("nothing").hidden = open.length > 0;
}

async function register(event) {
  event.preventDefault();
  const token = location.hash.slice(1);
  await attempt(async () => {
    const begun = await call("POST", "/signin/register/begin", { token });
    const credential = await navigator.credentials.create({ publicKey: decoded(begun.public_key) });
    const got = await call("POST", "/signin/register/finish", { token, id: begun.id, label: el("label").value, response: encoded(credential) });
    el("register").hidden = true;
    say("Registered for " + begun.operator + ". It counts when " + got.needed + " operators have approved request " + got.request + ".");
  });
}

if (el("page").dataset.page === "register") {
  el("register").addEventListener("submit", register);
} else {
  el("use-key").addEventListener("click", () => attempt(signIn));
  el("sign-out").addEventListener("click", () => attempt(signOut));
  attempt(show);
}
