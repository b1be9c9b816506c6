// A worker in Slipway's protocol, written from docs/protocol.md and from nothing else. It runs one build at a time, of the kind that
// command interop hands out.
import { createHash, randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import process from "node:process";
import WebSocket from "ws";

const base = process.env.SLIPWAY_URL.replace(/\/$/, "");
const credential = process.env.SLIPWAY_CREDENTIAL;
const name = process.env.SLIPWAY_WORKER;
const subprotocol = "slipway.worker.v1";
const digits = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

const instance = newUUID();
let attempt = null; // what it runs, or owes a report for

function newUUID() {
  const b = randomBytes(16);
  b.writeUIntBE(Date.now(), 0, 6);
  b[6] = 0x70 | (b[6] & 0x0f);
  b[8] = 0x80 | (b[8] & 0x3f);
  return b.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

function base62(bytes, width) {
  let n = BigInt("0x" + bytes.toString("hex"));
  let text = "";
  for (; n > 0n; n /= 62n) text = digits[Number(n % 62n)] + text;
  return text.padStart(width, "0");
}

function crc32(text) {
  let crc = ~0;
  for (const byte of Buffer.from(text)) {
    crc ^= byte;
    for (let i = 0; i < 8; i++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  const b = Buffer.alloc(4);
  b.writeUInt32BE(~crc >>> 0);
  return b;
}

const sha256 = (data) => createHash("sha256").update(data).digest();

function makeToken(build, epoch) {
  const secret = randomBytes(32);
  const body = `slw_build_${build.replaceAll("-", "")}_${epoch}_${base62(secret, 43)}`;
  return { text: body + base62(crc32(body), 6), hash: sha256(secret).toString("hex") };
}

// One attempt at most is under way, from its offer to finished_ok. It outlives connections.
class Attempt {
  state = "accepted";
  log = Buffer.alloc(0);
  acked = 0;
  next = 0;
  artifacts = 0;
  outcome = null;
  reason = "";
  begun = false;
  secrets = {}; // came with start; they are kept out of the log
  said = 0; // when accept or finished was last sent; 0: not over this connection
  renewed = 0; // from when the lease counts

  constructor(offer, window) {
    this.offer = offer;
    this.window = window;
    this.limit = offer.limits.log_cap;
    this.token = makeToken(offer.build, offer.epoch);
  }

  get ref() {
    return { build: this.offer.build, epoch: this.offer.epoch };
  }

  is(ref) {
    return ref.build === this.offer.build && ref.epoch === this.offer.epoch;
  }

  cancel() {
    if (this.state === "accepted" || this.state === "running") {
      this.state = "cancelling";
      this.outcome = "canceled";
      this.said = 0;
    }
  }

  due() {
    if (Date.now() - this.said < 3000) return false;
    this.said = Date.now();
    return true;
  }

  async request(method, path, headers, body, ...want) {
    const response = await fetch(base + path, {
      method,
      body,
      redirect: "manual",
      headers: { ...headers, Authorization: `Bearer ${this.token.text}` },
    });
    const content = Buffer.from(await response.arrayBuffer());
    if (!want.includes(response.status)) throw new Error(`${method} ${path} was answered with ${response.status}`);
    return content;
  }

  async upload(file, content) {
    const sum = sha256(content);
    const announced = { name: file, size: content.length, sha256: sum.toString("hex") };
    const path = `/v1/worker/builds/${this.offer.build}/${this.offer.epoch}/artifacts`;
    const answer = await this.request("POST", path, { "Content-Type": "application/json" }, JSON.stringify(announced), 200, 201);
    const created = JSON.parse(answer);
    if (!created.present) {
      await this.request("PUT", created.upload, { "Repr-Digest": `sha-256=:${sum.toString("base64")}:` }, content, 204);
    }
    this.artifacts++;
  }

  // run does what the spec says. A build that waits is left without an outcome.
  async run() {
    try {
      const spec = JSON.parse(Buffer.from(this.offer.spec, "base64"));
      const content = await this.request("GET", this.offer.source.url, {}, undefined, 200);
      const sum = sha256(content).toString("hex");
      if (sum !== this.offer.source.sha256 || content.length !== this.offer.source.size) throw new Error("the source is not what was declared");
      const lines = [];
      for (let i = 0; i < (spec.lines ?? 0); i++) lines.push(`line ${i}\n`);
      let text = lines.join("") + sum + "\n";
      for (const secret of Object.values(this.secrets)) text = text.replaceAll(secret, "***");
      this.log = Buffer.from(text);
      if (spec.wait) return;
      await this.upload("out/sum.txt", Buffer.from(sum + "\n"));
      this.outcome ??= "succeeded";
    } catch (error) {
      this.outcome ??= "lost";
      this.reason = String(error.message);
    }
    if (this.state === "running") {
      this.state = "finished";
      this.said = 0;
    }
  }
}

class Connection {
  limits = null; // set by welcome
  lease = 0;
  beats = new Map(); // when the heartbeats were sent that were not answered yet
  seq = 0;

  send(type, data) {
    this.socket.send(JSON.stringify({ t: type, d: data }));
  }

  // serve resolves with the rule by which to come back.
  serve() {
    return new Promise((resolve) => {
      this.socket = new WebSocket(base.replace(/^http/, "ws") + "/v1/worker/connect", [subprotocol], {
        headers: { Authorization: `Bearer ${credential}` },
        perMessageDeflate: false,
        followRedirects: false,
        maxPayload: 1 << 20,
        handshakeTimeout: 10000,
      });
      let rule = "backoff";
      this.socket.on("unexpected-response", (request, response) => {
        rule = [401, 403, 426].includes(response.statusCode) ? "never" : [502, 503, 504].includes(response.statusCode) ? "backoff" : "slow";
        request.destroy();
        resolve(rule);
      });
      this.socket.on("error", () => resolve(rule));
      this.socket.on("open", () => this.open());
      this.socket.on("message", (data, binary) => {
        if (binary) this.socket.close(1002);
        else this.receive(JSON.parse(data));
      });
      this.socket.on("close", (code) => {
        clearTimeout(this.timer);
        if (code === 1001) rule = "soon";
        if ([1002, 1009, 1013, 4403, 4429].includes(code)) rule = "slow";
        if ([4401, 4426].includes(code)) rule = "never";
        resolve(rule);
      });
    });
  }

  open() {
    this.helloSent = Date.now();
    const running = attempt ? [{ ...attempt.ref, state: attempt.state, log_len: attempt.log.length }] : [];
    this.send("hello", {
      worker: name, instance, version: "interop", os: process.platform, arch: process.arch, slots: 1, running,
    });
    this.timer = setTimeout(() => this.socket.terminate(), 10000);
  }

  beat() {
    const waiting = [...this.beats.values()];
    if (waiting.length > 0 && Date.now() - waiting[0] > (this.lease * 2) / 3) {
      this.socket.terminate(); // another controller may renew what is left
      return;
    }
    if (attempt?.state === "running" && Date.now() - attempt.renewed > this.lease) {
      Object.assign(attempt, { state: "finished", outcome: "lost", reason: "the lease was not renewed" });
    }
    this.beats.set(++this.seq, Date.now());
    this.send("heartbeat", { seq: this.seq, leases: attempt ? [attempt.ref] : [], load: 0, free_slots: attempt ? 0 : 1 });
    this.proceed();
    this.timer = setTimeout(() => this.beat(), this.every * (0.8 + 0.4 * Math.random()));
  }

  receive({ t: type, d: data = {}, must }) {
    if (!this.limits && type !== "welcome") return;
    const mine = attempt !== null && attempt.is(data);
    switch (type) {
      case "welcome":
        if (!this.limits) this.welcome(data);
        break;
      case "offer":
        if (mine) attempt.said = 0;
        else if (attempt) this.send("decline", { build: data.build, epoch: data.epoch, reason: "no_slot" });
        else attempt = new Attempt(data, this.limits.log_window);
        break;
      case "start":
        if (!mine) {
          this.send("finished", { build: data.build, epoch: data.epoch, outcome: "lost", log_len: 0, log_sha256: sha256("").toString("hex"), artifacts: 0, usage: {} });
        } else if (attempt.state === "accepted") {
          attempt.state = "running";
          attempt.secrets = data.secrets ?? {};
          attempt.renewed = attempt.acceptSent;
        }
        break;
      case "heartbeat_ok":
        this.heartbeatOK(data);
        break;
      case "cancel":
        if (mine) {
          attempt.cancel();
          this.send("cancelling", attempt.ref);
        }
        break;
      case "log_ack":
        if (mine) {
          attempt.acked = Math.max(attempt.acked, data.offset);
          attempt.next = Math.max(attempt.next, data.offset);
          attempt.window = data.window;
        }
        break;
      case "log_nack":
        if (mine) attempt.acked = attempt.next = data.expected;
        break;
      case "log_limit":
        if (mine) attempt.limit = Math.min(attempt.limit, data.cap);
        break;
      case "finished_ok":
        if (mine) attempt = null;
        break;
      case "error":
        if (mine && ["stale_lease", "unknown_build"].includes(data.code)) attempt = null;
        break;
      case "drain":
      case "pause":
      case "resume":
      case "bye":
        break; // which a worker for a test need not heed
      default:
        if (must) this.send("error", { code: "unsupported" });
    }
    this.proceed();
  }

  welcome(data) {
    this.limits = data.limits;
    this.lease = data.lease;
    this.every = data.heartbeat;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.beat(), this.every);
    if (!attempt) return;
    attempt.said = 0;
    attempt.window = this.limits.log_window;
    for (const decision of data.decisions ?? []) {
      if (!attempt?.is(decision)) continue;
      attempt.acked = attempt.next = decision.log_offset;
      if (decision.action === "keep" || decision.action === "cancel") attempt.renewed = this.helloSent;
      if (decision.action === "cancel") attempt.cancel();
      if (decision.action === "abandon") attempt = null;
    }
  }

  heartbeatOK({ seq, kept = [], lost = [], cancel = [] }) {
    const sent = this.beats.get(seq);
    for (const n of this.beats.keys()) if (n <= seq) this.beats.delete(n);
    if (sent && kept.some((ref) => attempt?.is(ref))) attempt.renewed = Math.max(attempt.renewed, sent);
    if (cancel.some((ref) => attempt?.is(ref))) attempt.cancel();
    if (lost.some((ref) => attempt?.is(ref))) attempt = null;
  }

  // proceed does the next thing that the attempt needs.
  proceed() {
    const a = attempt;
    if (!a || !this.limits || this.socket.readyState !== WebSocket.OPEN) return;
    if (a.state === "accepted" && a.due()) {
      a.acceptSent = a.said;
      this.send("accept", { ...a.ref, token_hash: a.token.hash });
    }
    if (a.state === "running" && !a.begun) {
      a.begun = true;
      a.run().then(() => current?.proceed());
    }
    if (a.state === "cancelling") a.state = "finished";
    this.sendLog(a);
    const wanted = Math.min(a.log.length, a.limit);
    if (a.state === "finished" && a.acked >= wanted && a.due()) {
      this.send("finished", {
        ...a.ref, outcome: a.outcome, reason: a.reason, artifacts: a.artifacts, usage: {},
        ...(a.outcome === "succeeded" ? { exit_code: 0 } : {}),
        log_len: wanted, log_sha256: sha256(a.log.subarray(0, wanted)).toString("hex"),
      });
    }
  }

  // sendLog sends as much as the window lets through.
  sendLog(a) {
    for (;;) {
      const n = Math.min(this.limits.log_frame, Math.min(a.log.length, a.limit) - a.next, a.acked + a.window - a.next);
      if (n <= 0) return;
      const header = Buffer.alloc(30);
      header[0] = 1;
      Buffer.from(a.offer.build.replaceAll("-", ""), "hex").copy(header, 2);
      header.writeUInt32BE(a.offer.epoch, 18);
      header.writeBigUInt64BE(BigInt(a.next), 22);
      this.socket.send(Buffer.concat([header, a.log.subarray(a.next, a.next + n)]));
      a.next += n;
    }
  }
}

let current = null;
let bound = 500;
for (;;) {
  const begun = Date.now();
  current = new Connection();
  const rule = await current.serve();
  if (rule === "never") {
    console.error("the controller refused this worker");
    process.exit(1);
  }
  if (Date.now() - begun > 30000) bound = 500;
  let pause = Math.random() * bound;
  if (rule === "soon") pause = Math.random() * 500;
  else if (rule === "slow") pause = 30000 * (1 + Math.random());
  else bound = Math.min(2 * bound, 30000);
  await sleep(pause);
}
