// What the page asks the server, and every way in which that can fail, in words.

const TOKEN = "imglish.token";

// Told to the document when the server wants a token, or another one; its detail is the Failure.
export const TOKEN_REFUSED = "tokenrefused";

export class Failure extends Error {
  // status: of HTTP, or 0 where no answer came; code: the server's short name for the error.
  constructor(message, { status = 0, code = "", retryAfter = null } = {}) {
    super(message);
    Object.assign(this, { status, code, retryAfter });
  }
}

export function setToken(token) {
  sessionStorage.setItem(TOKEN, token);
}

export function hasToken() {
  return Boolean(sessionStorage.getItem(TOKEN));
}

export async function getJson(path, signal) {
  return json(await send(path, { signal }));
}

// The bytes of a picture that the server offers; an <img> could not send the token.
export async function getPicture(path, signal) {
  return (await send(path, { signal })).blob();
}

// Fields are text, files, or lists of them. The answer: { result, model, seconds, picture }.
export async function post(path, fields, signal) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value instanceof Blob) body.append(name, value, value.name ?? "picture");
    else body.append(name, String(value));
  }
  return json(await send(path, { method: "POST", body, signal }));
}

async function send(path, options) {
  const address = new URL(path, document.baseURI);
  // The token goes to the server of this page and to no other.
  if (address.origin !== location.origin) throw new Failure("The server named an address that is not its own.");
  const headers = hasToken() ? { Authorization: `Bearer ${sessionStorage.getItem(TOKEN)}` } : {};
  let response;
  try {
    response = await fetch(address, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("The server cannot be reached. Is it still running? Nothing of yours is lost.");
  }
  if (response.ok) return response;
  const failure = await failureOf(response);
  if (response.status === 401) document.dispatchEvent(new CustomEvent(TOKEN_REFUSED, { detail: failure }));
  throw failure;
}

async function json(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("The server's answer broke off or is no JSON.", { status: response.status });
  }
}

async function failureOf(response) {
  const told = await response.json().then((body) => body?.error, () => null);
  const wait = Number.parseInt(response.headers.get("Retry-After"), 10);
  const message = told?.message ?? `The server answered ${response.status} without a reason.`;
  return new Failure(String(message), {
    status: response.status,
    code: String(told?.code ?? ""),
    retryAfter: Number.isFinite(wait) ? wait : null,
  });
}
