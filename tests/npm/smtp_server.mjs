// An SMTP server with STARTTLS and AUTH for tests. Its one argument is JSON: {"key", "cert", "username", "password"},
// key and cert as paths. First it prints {"port"}, then one line of JSON for each message: {"from", "to", "secure",
// "user", "raw"}, raw in base64. It ends when its input does.
import { readFileSync } from "node:fs";
import { SMTPServer } from "smtp-server";

const settings = JSON.parse(process.argv[2]);
const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");

const server = new SMTPServer({
  key: readFileSync(settings.key),
  cert: readFileSync(settings.cert),
  disableReverseLookup: true,
  authMethods: ["PLAIN", "LOGIN", "CRAM-MD5"],
  onAuth(auth, session, callback) {
    const known =
      auth.username === settings.username &&
      (auth.method === "CRAM-MD5" ? auth.validatePassword(settings.password) : auth.password === settings.password);
    callback(known ? null : new Error("Authentication credentials invalid"), known ? { user: auth.username } : undefined);
  },
  onData(stream, session, callback) {
    const chunks = [];
    stream.on("data", (chunk) => chunks.push(chunk));
    stream.on("end", () => {
      say({
        from: session.envelope.mailFrom.address,
        to: session.envelope.rcptTo.map((recipient) => recipient.address),
        secure: session.secure,
        user: session.user,
        raw: Buffer.concat(chunks).toString("base64"),
      });
      callback(null, "queued");
    });
  },
});
server.on("error", (error) => say({ error: error.message }));
server.listen(0, "127.0.0.1", () => say({ port: server.server.address().port }));
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
