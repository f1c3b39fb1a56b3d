// Makes vectors.json with the packages that issue sessions in the wild, so
// that the Go decoder is held to them and not to our reading of them.
//
//   npm install --no-save @auth/core@0.41.3 next-auth@4.24.15
//   node vectors.mjs > vectors.json
//
// Every token is issued at `now` (the clock of the tests) whatever the time is.
import { encode as v5 } from "@auth/core/jwt"
import { encode as v4 } from "next-auth/jwt"

const now = Date.UTC(2025, 10, 6, 12, 0, 0)
Date.now = () => now
const RealDate = Date
globalThis.Date = class extends RealDate {
  constructor(...args) { super(...(args.length ? args : [now])) }
  static now() { return now }
}

const A = "first-secret-0123456789abcdef-0123456789abcdef"
const B = "second-secret-fedcba9876543210-fedcba98765432"
const C = "a-secret-that-nobody-configured-0123456789"
const cookies = {
  v5: "authjs.session-token", v5s: "__Secure-authjs.session-token",
  v4: "next-auth.session-token", v4s: "__Secure-next-auth.session-token",
}
const maxAge = 30 * 24 * 60 * 60
const who = { name: "Ada", email: "ada@example.com", picture: null, sub: "user-1" }
const noise = (n) => Array.from({ length: n }, (_, i) => String.fromCharCode(97 + ((i * 7919) % 26))).join("")

// tokens by "<cookie>/<what is special about it>".
const tokens = {}
for (const [flavour, cookie] of Object.entries(cookies)) {
  const make = (token, secret = A, age = maxAge) => flavour.startsWith("v5")
    ? v5({ token, secret, salt: cookie, maxAge: age })
    : v4({ token, secret, maxAge: age })
  tokens[`${flavour}/plain`] = await make(who)
  tokens[`${flavour}/another secret`] = await make(who, C)
  tokens[`${flavour}/expired 10 s ago`] = await make(who, A, -10)
  tokens[`${flavour}/expired 60 s ago`] = await make(who, A, -60)
  tokens[`${flavour}/id instead of sub`] = await make({ id: "user-2" })
  tokens[`${flavour}/neither sub nor id`] = await make({ name: "Ada" })
  tokens[`${flavour}/sub is no text`] = await make({ sub: { $ne: null } })
  tokens[`${flavour}/long`] = await make({ ...who, sub: "user-3", note: noise(9_000) })
}
tokens["v5/too long"] = await v5({ token: { ...who, note: noise(12_400) }, secret: A, salt: cookies.v5, maxAge })

console.log(JSON.stringify({ now: now / 1000, secrets: [A, B, C], cookies, tokens }, null, 1))
