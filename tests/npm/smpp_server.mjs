// An SMPP message centre for tests. Its one argument is JSON: {"system_id", "password", "key", "cert", "receipts"}; with
// key and cert (paths) it speaks TLS only; receipts false sends none. First it prints {"port"}, then one line of JSON for
// each thing that happened: {"bind", "system_id", "status"}, {"submit", ...} with the message_id it was answered, {"answer",
// "status"} for a deliver_sm_resp, {"enquire_link"}, {"unbind"}, {"closed"}, {"error"}. Each line of its input is an order:
// {"inbound": {deliver_sm's fields}}, {"unbind": true}, {"enquire_link": true} or {"drop": true}, for every session bound.
// It ends when its input does.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import smpp from "smpp";

const settings = JSON.parse(process.argv[2]);
const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");
const tls = settings.key ? { key: readFileSync(settings.key), cert: readFileSync(settings.cert) } : {};
const bound = new Set();
let messages = 0;

function text(pdu) {
  const message = pdu.short_message?.message || pdu.message_payload?.message || "";
  return Buffer.isBuffer(message) ? { octets: message.toString("hex") } : { text: message };
}

function bind(session, pdu) {
  const known = pdu.system_id === settings.system_id;
  const status = !known ? smpp.ESME_RINVSYSID : pdu.password !== settings.password ? smpp.ESME_RINVPASWD : smpp.ESME_ROK;
  session.send(pdu.response({ command_status: status, system_id: "npm-smpp" }));
  say({ bind: pdu.command, system_id: pdu.system_id, status });
  if (status === smpp.ESME_ROK) bound.add(session);
  else session.close();
}

function submit(session, pdu) {
  const message_id = (0xabc000 + ++messages).toString(16);
  const { source_addr, source_addr_ton, destination_addr, dest_addr_ton, data_coding, esm_class, registered_delivery } = pdu;
  const udh = (pdu.short_message?.udh ?? []).map((element) => element.toString("hex"));
  const sar = [pdu.sar_msg_ref_num, pdu.sar_total_segments, pdu.sar_segment_seqnum];
  session.send(pdu.response({ message_id }));
  say({
    submit: message_id,
    source_addr,
    source_addr_ton,
    destination_addr,
    dest_addr_ton,
    data_coding,
    esm_class,
    registered_delivery,
    udh,
    sar: sar[1] === undefined ? null : sar,
    ...text(pdu),
  });
  if (settings.receipts === false || !(registered_delivery & 1)) return;
  const receipt = `id:${message_id} sub:001 dlvrd:001 submit date:2601021230 done date:2601021231 stat:DELIVRD err:000 text:`;
  session.deliver_sm(
    {
      source_addr: destination_addr,
      source_addr_ton: dest_addr_ton,
      destination_addr: source_addr,
      dest_addr_ton: source_addr_ton,
      esm_class: smpp.ESM_CLASS.MC_DELIVERY_RECEIPT,
      short_message: receipt,
      receipted_message_id: message_id,
      message_state: smpp.MESSAGE_STATE.DELIVERED,
    },
    (answer) => say({ answer: message_id, status: answer.command_status }),
  );
}

const server = smpp.createServer(tls, (session) => {
  for (const command of ["bind_transceiver", "bind_transmitter", "bind_receiver"]) {
    session.on(command, (pdu) => bind(session, pdu));
  }
  session.on("submit_sm", (pdu) => submit(session, pdu));
  session.on("enquire_link", (pdu) => {
    session.send(pdu.response());
    say({ enquire_link: true });
  });
  session.on("unbind", (pdu) => {
    session.send(pdu.response());
    say({ unbind: true });
    session.close();
  });
  session.on("close", () => {
    bound.delete(session);
    say({ closed: true });
  });
  session.on("error", (error) => say({ error: error.message }));
});

const orders = {
  inbound: (session, fields) => session.deliver_sm(fields, (answer) => say({ answer: "inbound", status: answer.command_status })),
  unbind: (session) => session.unbind((answer) => { say({ unbound: answer.command_status }); session.close(); }),
  enquire_link: (session) => session.enquire_link((answer) => say({ alive: answer.command_status })),
  drop: (session) => session.destroy(),
};
createInterface({ input: process.stdin })
  .on("line", (line) => {
    for (const [order, value] of Object.entries(JSON.parse(line))) {
      for (const session of bound) orders[order](session, value);
    }
  })
  .on("close", () => process.exit(0));
server.on("error", (error) => say({ error: error.message }));
server.listen(0, "127.0.0.1", () => say({ port: server.address().port }));
