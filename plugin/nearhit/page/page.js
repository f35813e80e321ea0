// What the proxy says, as text: no string ever becomes markup.

const KEY = "nearhit-key";
const EVERY_MS = 5000;
const SURE_MS = 4000;
const TIERS = ["exact", "semantic", "coalesced", "shadow", "miss", "bypass"];
const $ = (id) => document.getElementById(id);
let kind = "hits";
let next = null;
let signedIn = false;

function make(tag, given = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) {
    if (name === "data") Object.assign(made.dataset, value);
    else if (name === "on") for (const [event, act] of Object.entries(value)) made.addEventListener(event, act);
    else made[name] = value;
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

const number = (value) => Number(value).toLocaleString("en");
const percent = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)} %` : "-");
const when = (at) => new Date(at * 1000).toLocaleString();

function money(value) {
  if (value >= 100) return `$${number(Math.round(value))}`;
  return `$${value >= 0.01 || value === 0 ? value.toFixed(2) : value.toPrecision(2)}`;
}

function duration(seconds) {
  if (seconds < 1) return `${Math.round(1000 * seconds)} ms`;
  if (seconds < 120) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

async function ask(path, method = "GET", body = undefined) {
  const headers = { authorization: `Bearer ${sessionStorage.getItem(KEY)}` };
  if (body !== undefined) headers["content-type"] = "application/json";
  const response = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
  if (response.status === 401 || response.status === 403) {
    leave("This key is no proxy admin's.");
    throw new Error("refused");
  }
  const told = await response.json();
  if (!response.ok) throw new Error(typeof told.detail === "string" ? told.detail : `refused with ${response.status}`);
  return told;
}

// Runs what a person or the clock asks for, and says what went wrong.
async function attempt(work) {
  try {
    await work();
    if (signedIn) $("notice").textContent = "";
  } catch (error) {
    if (error.message !== "refused") $("notice").textContent = `Not now: ${error.message}`;
  }
}

function table(names, rows) {
  const head = make("tr", {}, ...names.map((name) => make("th", { scope: "col", textContent: name })));
  const lines = rows.map((row) => make("tr", {}, ...row.map((cell) => make("td", { textContent: cell, title: cell }))));
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...lines));
}

function button(label, act, look = "quiet") {
  return make("button", { type: "button", className: look, textContent: label, on: { click: act } });
}

// A button that asks once more, in place.
function careful(label, act) {
  const made = button(label, () => {
    if (!made.dataset.sure) {
      made.dataset.sure = "1";
      made.textContent = "Sure?";
      setTimeout(() => { delete made.dataset.sure; made.textContent = label; }, SURE_MS);
      return;
    }
    made.disabled = true;
    attempt(act).finally(() => { made.disabled = false; });
  }, "danger");
  return made;
}

// ---- overview -----------------------------------------------------------------------------

function counted(tally) {
  const sums = {};
  for (const row of tally) {
    const [first, second] = row.outcome.split("_");
    const tier = first === "hit" ? second : first;
    sums[tier] = (sums[tier] || 0) + row.requests;
  }
  return sums;
}

function mean(tally, wanted) {
  const rows = tally.filter((row) => wanted(row.outcome));
  const requests = rows.reduce((sum, row) => sum + row.requests, 0);
  return requests ? duration(rows.reduce((sum, row) => sum + row.seconds, 0) / requests) : "-";
}

function showFigures(told) {
  const sums = counted(told.tally);
  const hits = (sums.exact || 0) + (sums.semantic || 0) + (sums.coalesced || 0);
  const looked = hits + (sums.shadow || 0) + (sums.miss || 0);
  const total = told.savings.total;
  const lookup = told.lookup_ms;
  const figures = [
    [percent(told.mode === "shadow" ? sums.shadow || 0 : hits, looked), told.mode === "shadow" ? "would have been hits" : "hit ratio"],
    [money(total.saved_usd), `saved, ${money(total.spent_usd)} spent`],
    [duration(total.seconds), "of model time saved"],
    [mean(told.tally, (one) => one === "miss"), "the model's mean answer"],
    [lookup.count ? `${lookup.p50.toFixed(1)} ms` : "-", lookup.count ? `look-up, 95 % under ${lookup.p95.toFixed(0)} ms` : "look-up"],
    [number(told.entries), `answers held, ${number(told.quarantined)} quarantined`],
  ];
  $("figures").replaceChildren(...figures.map(([value, label]) =>
    make("div", { className: "figure" }, make("b", { textContent: value }), make("span", { textContent: label }))));
  const whole = looked + (sums.bypass || 0);
  const present = TIERS.filter((tier) => sums[tier]);
  $("tiers").replaceChildren(...present.map((tier) => part(tier, "width", sums[tier] / whole)));
  const said = (tier) => `${tier} ${number(sums[tier])} (${percent(sums[tier], whole)})`;
  $("tiers").ariaLabel = present.map(said).join(", ") || "no requests yet";
  $("legend").replaceChildren(...(present.length ? present.map((tier) =>
    make("li", {}, make("i", { data: { tier } }), said(tier))) : [make("li", { className: "note", textContent: "no requests yet" })]));
  showDays(told.tally);
}

function part(tier, side, share) {
  const made = make("span", { data: { tier } });
  made.style[side] = `${100 * share}%`;
  return made;
}

function showDays(tally) {
  const days = new Map();
  for (const row of tally) days.set(row.day, [...(days.get(row.day) || []), row]);
  const sums = [...days.keys()].sort((a, b) => a - b).map((day) => [day, counted(days.get(day))]);
  const all = (one) => Object.values(one).reduce((a, b) => a + b, 0);
  const most = Math.max(...sums.map(([, one]) => all(one)));
  $("daily").ariaLabel = "requests by day";
  $("daily").replaceChildren(...(sums.length < 2 ? [] : sums.map(([day, one]) => {
    const parts = [...TIERS].reverse().filter((tier) => one[tier]).map((tier) => part(tier, "height", one[tier] / most));
    return make("span", { title: `${new Date(day * 86400000).toISOString().slice(0, 10)}: ${number(all(one))}` }, ...parts);
  })));
}

function showSaved(id, rows, name, length) {
  const lines = rows.slice(0, 10).map((one) => [one.name.slice(0, length), percent(one.hits, one.requests), money(one.saved_usd), money(one.spent_usd)]);
  $(id).replaceChildren(lines.length ? table([name, "hits", "saved", "spent"], lines) : make("p", { className: "note", textContent: "none yet" }));
}

function showValves(shut) {
  $("valves").hidden = !shut.length;
  $("valves").replaceChildren(...shut.map((one) => {
    const scope = one.valve === "questions_per_entry" ? "entry" : "tenant";
    return make("div", {}, make("strong", { textContent: `${one.valve}: ${one.why}` }),
      make("div", { className: "facts" }, ...[one.trial_at === null ? "shut" : "on trial", `since ${when(one.since)}`,
        `${scope} ${one.of.slice(0, 12)}`].map((fact) => make("span", { textContent: fact })),
      make("span", { className: "end" }, button("Open", () => attempt(async () => {
        await ask("valves", "POST", { open: one.valve, of: one.of });
        await showStats();
      })))));
  }));
}

async function showStats() {
  const told = await ask(`stats?days=${$("days").value}`);
  $("mode").textContent = told.mode;
  $("mode").dataset.mode = told.mode;
  showFigures(told);
  showValves(told.valves);
  showSaved("teams", told.savings.teams, "team", 40);
  showSaved("keys", told.savings.keys, "key (digest)", 12);
}

// ---- pairs --------------------------------------------------------------------------------

function side(title, question, answer) {
  return make("div", {}, make("h3", { textContent: title }), make("strong", { textContent: question }),
    make("div", { className: "answer", tabIndex: answer.length > 300 ? 0 : -1, textContent: answer }));
}

function pair(one) {
  const label = one.person || one.client || one.judge;
  const said = make("span", { className: label, textContent: label ? `said to be ${label}` : "" });
  const say = (word) => async () => {
    await ask("feedback", "POST", { decision: one.id, label: word });
    said.className = word;
    said.textContent = `said to be ${word}`;
  };
  const facts = [`similarity ${one.similarity.toFixed(4)}`, `confidence ${one.confidence.toFixed(4)}`,
    one.veto ? `forbidden by ${one.veto}` : one.kind, when(one.at)];
  return make("article", {},
    make("div", { className: "pair" }, side("asked", one.question, one.fresh_answer), side("stored", one.stored_question, one.stored_answer)),
    make("div", { className: "facts" }, ...facts.map((fact) => make("span", { textContent: fact })), said,
      make("span", { className: "end" },
        button("Wrong", () => attempt(say("wrong")), "danger"), button("Right", () => attempt(say("right"))))));
}

async function showPairs() {
  const told = await ask(`decisions?kind=${kind}&limit=20`);
  $("decisions").replaceChildren(...(told.decisions.length ? told.decisions.map(pair)
    : [make("p", { className: "panel note", textContent: kind === "hits" ? "No hit in other words yet." : "No near miss yet." })]));
}

function choose(wanted) {
  kind = wanted;
  $("show-hits").ariaPressed = String(kind === "hits");
  $("show-near").ariaPressed = String(kind === "near");
  attempt(showPairs);
}

// ---- explain ------------------------------------------------------------------------------

async function explain() {
  const messages = [{ role: "user", content: $("question").value }];
  if ($("system").value) messages.unshift({ role: "system", content: $("system").value });
  const words = $("tenant").value.trim().split(/\s+/).filter(Boolean);
  const query = words.map((word) => `tenant=${encodeURIComponent(word)}`).join("&");
  const told = await ask(`explain?${query}`, "POST", { model: $("model").value, messages });
  const near = (told.candidates || []).map((one) =>
    [one.stored_question, one.similarity.toFixed(4), one.confidence.toFixed(4), one.veto || "-"]);
  $("explained").replaceChildren(
    make("p", { className: "verdict", textContent: `${told.outcome}: ${told.kind || told.reason}` }),
    near.length ? make("div", { className: "scroll" }, table(["stored question", "similarity", "confidence", "forbidden by"], near)) : "");
}

// ---- entries ------------------------------------------------------------------------------

function entry(one) {
  const answer = make("div", { className: "answer", hidden: true });
  const open = button("Show", () => attempt(async () => {
    if (answer.hidden) answer.textContent = (await ask(`entries/${one.id}`)).answer;
    answer.hidden = !answer.hidden;
    open.textContent = answer.hidden ? "Show" : "Hide";
  }));
  const row = make("div", {}, make("strong", { textContent: one.question }), answer,
    make("div", { className: "facts" },
      ...[one.similarity === null ? null : `similarity ${one.similarity.toFixed(4)}`, one.model, `${number(one.hits)} hits`,
        one.is_exact_only ? "exact only" : null, `until ${when(one.expires_at)}`]
        .filter((fact) => fact !== null).map((fact) => make("span", { textContent: fact })),
      make("span", { className: "end" }, open, careful("Delete", async () => {
        await ask(`entries/${one.id}`, "DELETE");
        row.remove();
      }))));
  return row;
}

async function search(isMore) {
  const query = new URLSearchParams({ limit: "20" });
  if ($("sought").value) query.set($("by").value, $("sought").value);
  if (isMore && next) query.set("after", next);
  const told = await ask(`entries?${query}`);
  next = told.next;
  $("more").hidden = next === null;
  const rows = told.entries.map(entry);
  if (isMore) $("found").append(...rows);
  else $("found").replaceChildren(...(rows.length ? rows : [make("p", { className: "note", textContent: "Nothing found." })]));
}

// ---- report -------------------------------------------------------------------------------

async function report() {
  const told = await ask(`report?days=${$("days").value}`);
  const rows = told.thresholds.map((row) => [row.threshold.toFixed(3), number(row.served), number(row.labelled), number(row.wrong),
    row.labelled ? `${(100 * row.share.value).toFixed(1)} % (${(100 * row.share.low).toFixed(1)} to ${(100 * row.share.high).toFixed(1)})` : "-"]);
  $("rows").replaceChildren(table(["confidence", "served", "labelled", "wrong", "wrong share, 95 %"], rows));
  $("worst").replaceChildren(...told.worst.map(pair));
}

// ---- coming and going ---------------------------------------------------------------------

function leave(reason) {
  signedIn = false;
  sessionStorage.removeItem(KEY);
  for (const id of ["main", "nav", "leave", "mode"]) $(id).hidden = true;
  for (const id of ["decisions", "found", "explained", "rows", "worst", "figures", "teams", "keys", "valves"]) $(id).replaceChildren();
  $("enter").hidden = false;
  $("notice").textContent = reason;
  $("key").focus();
}

async function enter() {
  await showStats();
  signedIn = true;
  $("enter").hidden = true;
  for (const id of ["main", "nav", "leave", "mode"]) $(id).hidden = false;
  await Promise.all([showPairs(), search(false)]);
}

function on(id, event, act) {
  $(id).addEventListener(event, (happened) => {
    happened.preventDefault();
    act();
  });
}

on("enter", "submit", () => {
  sessionStorage.setItem(KEY, $("key").value.trim());
  $("key").value = "";
  attempt(enter);
});
on("leave", "click", () => leave(""));
on("days", "change", () => attempt(showStats));
on("show-hits", "click", () => choose("hits"));
on("show-near", "click", () => choose("near"));
on("explain", "submit", () => attempt(explain));
on("search", "submit", () => attempt(() => search(false)));
on("more", "click", () => attempt(() => search(true)));
on("load-report", "click", () => attempt(report));
setInterval(() => { if (signedIn && !document.hidden) attempt(showStats); }, EVERY_MS);
if (sessionStorage.getItem(KEY)) attempt(enter);
else leave("");
