"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const ROW = 60, EXTRA = 6;

  // Everything that comes from a run is set as text, never as markup.
  function make(tag, attributes = {}, ...children) {
    const svg = ["svg", "g", "path", "line", "rect", "text", "title"].includes(tag) && attributes.ns;
    const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) if (key !== "ns" && value !== undefined) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  // Light and dark, kept for the next time where the browser lets a page keep something.
  const root = document.documentElement;
  try { const kept = localStorage.getItem("kgt-theme"); if (kept) root.dataset.theme = kept; } catch { /* not kept */ }
  $("theme").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem("kgt-theme", root.dataset.theme); } catch { /* not kept */ }
  });

  // What a reader takes away.
  function save(name, content, type) {
    const link = make("a", { href: URL.createObjectURL(content instanceof Blob ? content : new Blob([content], { type })), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
  // A cell that a spreadsheet would take for a formula is written as text.
  const field = (text) => { const safe = /^[=+\-@\t\r]/.test(text) && !/^-?[\d.]+$/.test(text) ? `'${text}` : text; return /[",\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe; };
  const csv = (rows) => rows.map((row) => row.map((cell) => field(String(cell ?? ""))).join(",")).join("\n") + "\n";
  function tools(...buttons) {
    const bar = make("p", { class: "tools" });
    for (const [name, label, work] of buttons) {
      const button = make("button", { type: "button", "aria-label": label }, name);
      button.addEventListener("click", async () => {
        try { await work(); } catch (error) { button.textContent = `${name} failed: ${error.message}`; }
      });
      bar.append(button);
    }
    return bar;
  }
  for (const table of document.querySelectorAll("table.sortable")) {
    const section = table.closest("section"), what = table.caption.textContent;
    const text = () => csv([table.tHead.rows[1], ...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) => cell.textContent)));
    table.parentElement.after(tools(["Copy", `Copy as CSV: ${what}`, () => navigator.clipboard.writeText(text())], ["CSV", `Download as CSV: ${what}`, () => save(`${section.id}.csv`, text(), "text/csv")]));
  }
  for (const figure of document.querySelectorAll("figure[data-stem]")) {
    const picture = () => {
      const svg = figure.querySelector("svg").cloneNode(true), box = svg.viewBox.baseVal, style = getComputedStyle(figure);
      svg.setAttribute("xmlns", "http://www.w3.org/2000/svg");
      svg.setAttribute("width", box.width);
      svg.setAttribute("height", box.height);
      svg.style.color = style.color;
      svg.style.background = style.backgroundColor;
      return { box, text: new XMLSerializer().serializeToString(svg), ground: style.backgroundColor };
    };
    const name = figure.dataset.stem, title = figure.querySelector("h3").textContent;
    figure.querySelector("figcaption").after(tools(["SVG", `Download as SVG: ${title}`, () => save(`${name}.svg`, picture().text, "image/svg+xml")],
      ["PNG", `Download as PNG: ${title}`, async () => {
        const { box, text, ground } = picture(), image = new Image();
        image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
        await image.decode();
        const canvas = make("canvas", { width: Math.round(3 * box.width), height: Math.round(3 * box.height) }), pen = canvas.getContext("2d");
        pen.fillStyle = ground;
        pen.fillRect(0, 0, canvas.width, canvas.height);
        pen.drawImage(image, 0, 0, canvas.width, canvas.height);
        save(`${name}.png`, await new Promise((done) => canvas.toBlob(done, "image/png")));
      }]));
  }
  addEventListener("beforeprint", () => document.querySelectorAll("#tables details").forEach((one) => { one.open = true; }));

  // Sortable tables: the best end first, then the other one, then the paper's order again; missing values stay at the end.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.querySelectorAll("th[aria-sort]")], inOrder = [...table.tBodies[0].rows];
    heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
      const was = head.getAttribute("aria-sort"), first = column > 0 ? "descending" : "ascending";
      const now = was === "none" ? first : was === first ? { ascending: "descending", descending: "ascending" }[first] : "none";
      heads.forEach((one) => one.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", now);
      const body = table.tBodies[0], sign = now === "descending" ? -1 : 1;
      if (now === "none") { body.append(...inOrder); return; }
      const key = (row) => column === 0 ? row.cells[0].textContent : row.cells[column].dataset.value;
      const rows = [...body.rows].sort((a, b) => {
        const x = key(a), y = key(b);
        if (x === undefined || y === undefined) return (x === undefined) - (y === undefined);
        return sign * (column === 0 ? x.localeCompare(y) : Number(x) - Number(y));
      });
      body.append(...rows);
    }));
  }
  for (const swatch of document.querySelectorAll(".swatch")) {
    const look = LOOKS[swatch.dataset.editor];
    if (look) { swatch.style.borderColor = look[0]; if (!look[1]) swatch.style.background = look[0]; }
  }

  // The edits. A cell's payload is unpacked when it is first looked at.
  const cells = [...document.querySelectorAll("script[type='application/x-kgt-edits']")];
  if (!cells.length) return;
  const list = $("list"), spacer = $("spacer"), detail = $("detail");
  let run = null, edits = [], shown = [], at = -1, byHead = new Map();
  const unpacked = new Map();

  async function unpack(element) {
    if (!unpacked.has(element)) {
      const bytes = Uint8Array.from(atob(element.textContent.trim()), (c) => c.charCodeAt(0));
      const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
      const { strings, columns, editors } = await new Response(stream).json();
      const text = (i) => (i < 0 ? null : strings[i]);
      const asked = columns.position.map((position, i) => ({
        index: i, position, id: columns.case_id[i], query: text(columns.query[i]) ?? `case ${columns.case_id[i]}`, subject: text(columns.subject[i]) ?? "",
        relation: text(columns.relation[i]) ?? "", answer: text(columns.answer[i]) ?? "", truth: text(columns.truth[i]), before: text(columns.before[i]),
      }));
      const told = (editor, i) => {
        const one = { said: text(editor.said[i]), held: editor.held[i], failure: text(editor.failure[i]) };
        return { ...one, state: one.failure !== null ? "failed" : one.held === null ? "open" : one.held ? "held" : "lost" };
      };
      const listed = new Map();
      // The edits of one editor; every editor's are made when they are first looked at.
      const of = (editor) => {
        if (!listed.has(editor)) listed.set(editor, asked.map((one, i) => {
          const triples = (editor.triples?.[i] ?? []).map(([h, r, t, change, retrieval, reasoning]) => ({ head: strings[h], relation: strings[r], tail: strings[t], change: ["added", "removed", "kept"][change], retrieval, reasoning }));
          const all = { ...one, ...told(editor, i), triples, p0: editor.p_before?.[i] ?? null, p1: editor.p_after?.[i] ?? null };
          all.changed = !editor.triples || triples.some((z) => z.change !== "kept");
          all.hay = [one.query, one.subject, one.relation, one.answer, one.truth, one.before, all.said, all.failure, ...triples.flatMap((z) => [z.relation, z.tail])].join("\n").toLowerCase();
          return all;
        }));
        return listed.get(editor);
      };
      unpacked.set(element, { title: element.dataset.title, editors, of, told });
    }
    return unpacked.get(element);
  }

  const WORDS = { held: "held", lost: "not held", failed: "failed", open: "not evaluated" };
  const badge = (one) => make("span", { class: `badge ${one.state}` }, WORDS[one.state]);
  const said = (text) => (text === null ? "(not recorded)" : text === "" ? "(nothing)" : text);
  const percent = (p) => (p === null || p === undefined ? "–" : p >= 0.9995 ? ">99.9 %" : p < 0.0005 ? "<0.1 %" : `${(100 * p).toFixed(1)} %`);

  function filter() {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean), relation = $("relation").value, outcome = $("outcome").value;
    shown = edits.filter((one) => (relation === "" || one.relation === relation)
      && (outcome === "all" || (outcome === "unchanged" ? !one.changed && one.failure === null : one.state === outcome))
      && words.every((word) => one.hay.includes(word)));
    const held = shown.filter((one) => one.state === "held").length;
    $("count").textContent = `${shown.length.toLocaleString("en")} of ${edits.length.toLocaleString("en")} edits, ${held.toLocaleString("en")} held`;
    list.scrollTop = 0;
    select(shown.length ? 0 : -1);
  }

  function draw() {
    spacer.style.height = `${shown.length * ROW}px`;
    const first = Math.max(0, Math.floor(list.scrollTop / ROW) - EXTRA);
    const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + EXTRA);
    const rows = [];
    for (let i = first; i < last; i++) {
      const one = shown[i];
      const row = make("div", { class: "row", role: "option", id: `edit-${one.index}`, "aria-selected": String(i === at), "aria-posinset": i + 1, "aria-setsize": shown.length },
        make("span", { class: "q" }, one.query), make("span", { class: "a" }, `${one.before === null ? "" : `${said(one.before)} → `}${one.answer}`), badge(one));
      row.style.top = `${i * ROW}px`;
      row.addEventListener("click", () => select(i));
      rows.push(row);
    }
    list.replaceChildren(spacer, ...rows);
    if (!shown.length) list.append(make("p", { class: "empty" }, "No edit fits. Take a word or a filter away."));
    if (at >= 0) list.setAttribute("aria-activedescendant", `edit-${shown[at].index}`); else list.removeAttribute("aria-activedescendant");
  }

  const link = (one) => `#${new URLSearchParams({ run: run.title, editor: editor().name, case: one.id })}`;
  const editor = () => run.editors[Number($("editor").value)];

  function select(i, reveal = false) {
    at = i;
    if (reveal && i >= 0) {
      const top = i * ROW;
      if (top < list.scrollTop) list.scrollTop = top;
      else if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
    }
    draw();
    show(i < 0 ? null : shown[i]);
  }

  function show(one) {
    detail.replaceChildren();
    detail.scrollTop = 0;
    if (!one) return;
    const turns = make("dl", { class: "turns" });
    const turn = (name, ...value) => turns.append(make("dt", {}, name), make("dd", {}, ...value));
    turn("Before, the model said", said(one.before));
    turn("The user answered", one.answer);
    if (one.failure !== null) turn("The edit failed", one.failure);
    else turn("At the end it says", one.held === null ? "(not evaluated)" : said(one.said), badge(one));
    detail.append(make("p", { class: "muted" }, `Edit ${one.position + 1}, case ${one.id}${one.relation ? `, ${one.relation}` : ""}. `, make("a", { href: link(one) }, "Link to it")), make("h3", {}, one.query, " …"), turns);
    if (run.editors.length > 1) {
      const rows = run.editors.map((other, number) => {
        const name = make("button", { type: "button" }, other.name), its = run.told(other, one.index);
        if (other === editor()) name.setAttribute("aria-current", "true");
        name.addEventListener("click", () => { $("editor").value = number; list_of(one.id); });
        return make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, its.failure ?? (its.held === null ? "(not evaluated)" : said(its.said))), make("td", {}, badge(its)));
      });
      detail.append(make("h4", {}, "What each editor's model says at the end"), make("table", { class: "sides" }, make("tbody", {}, ...rows)));
    }
    if (one.p0 !== null || one.p1 !== null) {
      const bars = make("div", { class: "certainty" });
      for (const [name, p] of [["before", one.p0], ["after", one.p1]]) {
        const fill = make("i");
        fill.style.width = `${100 * (p ?? 0)}%`;
        bars.append(make("span", {}, name), make("div", { class: "track" }, fill), make("span", {}, percent(p)));
      }
      detail.append(make("h4", {}, "Probability of the user's answer, P(a|q)"), bars);
    }
    if (one.failure === null && editor().triples) {
      const items = make("ul", { class: "triples" });
      for (const z of one.triples) {
        items.append(make("li", { class: z.change }, make("span", { class: "sign", "aria-label": z.change }, { added: "+", removed: "−", kept: "·" }[z.change]),
          make("span", { class: "words" }, z.head, " ", make("em", {}, z.relation), " ", z.tail), make("span", { class: "muted" }, z.change),
          make("span", { class: "p" }, `looked up ${percent(z.retrieval)}, gives the answer ${percent(z.reasoning)}`)));
      }
      detail.append(make("h4", {}, one.changed ? "What changed in the graph" : "The graph was left as it was"), items);
    }
    const head = one.triples.length ? one.triples[0].head : one.subject;
    const around = byHead.get(head.toLowerCase()) ?? [];
    if (around.length && editor().triples) detail.append(make("h4", {}, `The graph around ${head}`), picture(head, around, one));
    const others = around.filter((other) => other !== one);
    if (others.length) {
      const links = make("div", { class: "others" });
      for (const other of others) {
        const link = make("button", { type: "button" }, `${other.position + 1}: ${other.query} ${other.answer}`);
        link.addEventListener("click", () => {
          if (!shown.includes(other)) { $("search").value = ""; $("relation").value = ""; $("outcome").value = "all"; filter(); }
          select(shown.indexOf(other), true);
        });
        links.append(link);
      }
      detail.append(make("h4", {}, "Other edits of it"), links);
    }
  }

  // The entity and what it is tied to; the last edit that touched a triple decides its state.
  function picture(head, around, chosen) {
    const state = new Map();
    for (const edit of [...around].sort((a, b) => a.position - b.position)) {
      for (const z of edit.triples) {
        const key = JSON.stringify([z.relation, z.tail]);
        const known = state.get(key);
        state.set(key, { ...z, change: z.change === "kept" && known && known.change === "added" ? "added" : z.change, mine: edit === chosen });
      }
    }
    // One node a tail, however many relations lead to it.
    const tails = new Map();
    for (const z of state.values()) tails.set(z.tail, [...(tails.get(z.tail) ?? []), z]);
    const all = [...tails], most = 12, drawn = all.slice(-most), n = drawn.length;
    // Wide: the entity on the left, its tails down the right. Narrow: a trunk from the entity on top.
    const width = Math.min(620, Math.max(300, detail.clientWidth - 50)), narrow = width < 480, letters = narrow ? 16 : 26;
    const top = narrow ? 48 : 8, heights = drawn.map(([, list]) => 28 + 14 * list.length);
    const height = top + heights.reduce((sum, one) => sum + one, 0) + (all.length > most ? 22 : 10);
    const cut = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);
    const told = [...state.values()].map((z) => `${z.change}: ${z.relation} ${z.tail}`).join("; ");
    const svg = make("svg", { ns: 1, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${head}. ${told}` });
    const nodes = [];
    const breadth = (text) => 24 + 7.4 * Math.min(text.length, letters);
    const pill = (left, y, text, cls) => {
      const w = breadth(text);
      nodes.push(make("g", { ns: 1 }, make("title", { ns: 1 }, text), make("rect", { ns: 1, class: `node ${cls}`, x: left, y: y - 15, width: w, height: 30, rx: 15 }),
        make("text", { ns: 1, x: left + w / 2, y: y + 4.5, "text-anchor": "middle" }, cut(text, letters))));
    };
    const from = narrow ? { x: 26, y: 34 } : { x: 4 + breadth(head), y: height / 2 };
    let y = top - 8;
    drawn.forEach(([tail, list], i) => {
      y += heights[i];
      const cls = ["added", "removed", "kept"].find((change) => list.some((z) => z.change === change));
      const x = width - 4 - breadth(tail), bend = (x - from.x) * 0.35;
      svg.append(make("path", { ns: 1, class: `edge ${cls}`, d: narrow ? `M${from.x} ${from.y} V${y} H${x}` : `M${from.x} ${from.y} C${from.x + bend} ${from.y} ${from.x + 0.7 * bend} ${y} ${from.x + 1.7 * bend} ${y} H${x}` }));
      list.forEach((z, line) => nodes.push(make("text", { ns: 1, class: "rel", x: narrow ? from.x + 10 : x - 12, y: y - 7 - 14 * (list.length - 1 - line), "text-anchor": narrow ? "start" : "end" },
        `${{ added: "+ ", removed: "− ", kept: "" }[z.change]}${cut(z.relation, 32)}`)));
      pill(x, y, tail, cls);
    });
    pill(4, narrow ? 20 : from.y, head, "centre");
    svg.append(...nodes);
    if (all.length > most) svg.append(make("text", { ns: 1, class: "rel", x: width / 2, y: height - 4, "text-anchor": "middle" }, `and ${all.length - most} more`));
    return svg;
  }

  async function open(index, wanted, id) {
    try { run = await unpack(cells[index]); } catch (error) { $("count").textContent = `This browser cannot unpack the edits: ${error.message}`; return; }
    $("cell").value = index;
    $("editor").replaceChildren(...run.editors.map((one, i) => make("option", { value: i }, one.name)));
    $("editor").value = Math.max(0, run.editors.findIndex((one) => one.name === wanted));
    list_of(id);
  }

  // The edits of the chosen editor; `id` is the case to be shown, the first one without it.
  function list_of(id) {
    edits = run.of(editor());
    byHead = new Map();
    for (const one of edits) {
      const key = (one.triples.length ? one.triples[0].head : one.subject).toLowerCase();
      if (!byHead.has(key)) byHead.set(key, []);
      byHead.get(key).push(one);
    }
    const counts = new Map(), chosen = $("relation").value;
    for (const one of edits) if (one.relation) counts.set(one.relation, (counts.get(one.relation) ?? 0) + 1);
    $("relation").replaceChildren(make("option", { value: "" }, "all relations"), ...[...counts].sort((a, b) => a[0].localeCompare(b[0])).map(([name, n]) => make("option", { value: name }, `${name} (${n})`)));
    $("relation").value = counts.has(chosen) ? chosen : "";
    filter();
    if (id === undefined) return;
    if (!shown.some((one) => one.id === id)) { $("search").value = ""; $("relation").value = ""; $("outcome").value = "all"; filter(); }
    const place = shown.findIndex((one) => one.id === id);
    if (place >= 0) select(place, true);
  }

  // An address that names an edit opens it.
  function follow() {
    const asked = new URLSearchParams(location.hash.slice(1)), index = cells.findIndex((cell) => cell.dataset.title === asked.get("run"));
    if (index < 0) return false;
    open(index, asked.get("editor"), Number(asked.get("case"))).then(() => $("edits").scrollIntoView());
    return true;
  }

  cells.forEach((cell, i) => $("cell").append(make("option", { value: i }, cell.dataset.title)));
  $("cell").addEventListener("change", () => open(Number($("cell").value), editor().name));
  $("editor").addEventListener("change", () => list_of(shown[at]?.id));
  addEventListener("hashchange", follow);
  $("taken").append(tools(["Download these edits", "Download the edits that are listed, as CSV", () => save("edits.csv", csv([["position", "case", "query", "new answer", "true answer", "before", "editor", "at the end", "outcome"],
    ...shown.map((one) => [one.position + 1, one.id, one.query, one.answer, one.truth, one.before, editor().name, one.said, WORDS[one.state]])]), "text/csv")]));
  for (const id of ["search", "relation", "outcome"]) $(id).addEventListener("input", filter);
  list.addEventListener("scroll", draw, { passive: true });
  addEventListener("resize", draw);
  list.addEventListener("keydown", (event) => {
    const page = Math.max(1, Math.floor(list.clientHeight / ROW) - 1);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -shown.length, End: shown.length }[event.key];
    if (step === undefined || !shown.length) return;
    event.preventDefault();
    select(Math.min(shown.length - 1, Math.max(0, at + step)), true);
  });
  addEventListener("keydown", (event) => {
    if (event.key === "/" && !["INPUT", "SELECT", "TEXTAREA"].includes(document.activeElement.tagName)) { event.preventDefault(); $("search").focus(); }
  });
  requestAnimationFrame(() => setTimeout(() => follow() || open(0)));
})();
