"use strict";
// The token stands behind the # of the address, which no browser sends; it is kept for this tab alone.
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  sessionStorage.setItem("token", given);
  history.replaceState(null, "", location.pathname);
}
const at = (id) => document.getElementById(id);

function put(parent, tag, text, kind) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (kind) made.className = kind;
  parent.append(made);
  return made;
}

function note(text) {
  at("note").textContent = text;
}

async function send(path, fields) {
  const headers = { Authorization: `Bearer ${sessionStorage.getItem("token") ?? ""}` };
  const more = fields ? { method: "POST", body: JSON.stringify(fields) } : {};
  let answer;
  try {
    answer = await fetch(path, { headers, ...more });
  } catch {
    throw new Error("the server does not answer: is kgt serve still running?");
  }
  if (!answer.ok) throw new Error((await answer.json()).error);
  return answer;
}

async function* lines(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let begun = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const whole = (begun + value).split("\n");
    begun = whole.pop();
    for (const line of whole) yield JSON.parse(line);
  }
}

async function showFacts() {
  const known = await (await send("facts")).json();
  at("who").textContent = `${known.user}, with ${known.model}`;
  at("none").hidden = known.facts.length > 0;
  const heads = new Map();
  for (const fact of known.facts) heads.set(fact.head, [...(heads.get(fact.head) ?? []), fact]);
  const places = new Map([...heads.keys()].map((head, number) => [head, `head-${number}`]));
  at("facts").replaceChildren();
  for (const [head, facts] of heads) {
    put(at("facts"), "h3", head).id = places.get(head);
    for (const fact of facts) {
      const row = put(at("facts"), "div", "", "fact");
      const text = put(row, "p", "");
      put(text, "span", `${fact.relation} `, "relation");
      if (places.has(fact.tail)) put(text, "a", fact.tail).href = `#${places.get(fact.tail)}`;
      else put(text, "span", fact.tail);
      text.title = `${fact.question === fact.answer ? "read" : `told: ${fact.question} ${fact.answer}`}, ${fact.when.slice(0, 16).replace("T", " ")}`;
      const gone = put(row, "button", "×");
      gone.setAttribute("aria-label", `Take back: ${head} ${fact.relation} ${fact.tail}`);
      gone.addEventListener("click", () => tried(() => send("undo", { number: fact.number })));
    }
  }
}

// One thing after another: a correction that is sent while an answer is written waits for that answer, and what is
// known is shown as it is after the last change.
let before = Promise.resolve();

function tried(work) {
  before = before.then(async () => {
    note("");
    try {
      await work();
    } catch (error) {
      note(error.message);
    }
    try {
      await showFacts();
    } catch (error) {
      note(error.message);
    }
  });
}

function say(line) {
  const log = at("log");
  const turn = put(log, "div", "");
  put(turn, "p", line, "asked");
  const answer = put(turn, "p", "");
  log.scrollTop = log.scrollHeight;
  return async () => {
    for await (const one of lines(await send("say", { line }))) {
      if (one.part) answer.textContent += one.part;
      if (one.answer !== undefined) answer.textContent = one.answer;
      for (const fact of one.facts ?? []) put(turn, "p", fact, "by");
      if (one.told) answer.textContent = one.told;
      if (one.error) put(turn, "p", one.error, "bad");
      log.scrollTop = log.scrollHeight;
    }
  };
}

// `begin` shows what is seen at once, and gives the work that waits for its turn.
function whenSent(form, field, begin) {
  at(form).addEventListener("submit", (event) => {
    event.preventDefault();
    const text = at(field).value.trim();
    at(field).value = "";
    if (text) tried(begin(text));
  });
}

whenSent("say", "line", say);
whenSent("read", "text", (text) => async () => note((await (await send("read", { text })).json()).told));
whenSent("forget", "what", (what) => async () => {
  note((await (await send("forget", { what })).json()).told);
  at("log").replaceChildren();
});
tried(async () => {});
