"use strict";
// What the page does: draws, filters, opens.  All text comes from the data block, and becomes text.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const form = document.getElementById("filter");
  const body = document.getElementById("rows");
  const more = document.getElementById("more");
  const states = new Map(data.states.map((state) => [state.name, state]));
  const STEP = 100;
  const FOLDED = 160; // letters of a reason that are shown at once
  let limit = STEP;

  function element(name, options = {}, ...children) {
    const made = Object.assign(document.createElement(name), options);
    made.append(...children);
    return made;
  }

  const put = (id, ...children) => document.getElementById(id).append(...children);
  const text = (words, className = "") => element("span", { className, textContent: words });

  function coloured(made, state) {
    [made.style.background, made.style.color] = data.colours[state];
    return made;
  }

  const badge = (state) => coloured(text(states.get(state).called, "state"), state);

  // A link to a case file that `refmta-fault replay` takes; it needs no server.
  function replay(row) {
    const octets = new TextEncoder().encode(row.file);
    const encoded = btoa(Array.from(octets, (octet) => String.fromCharCode(octet)).join(""));
    const name = row.name || `${row.target}-${row.harness}-${row.id}.json`.replace(/[^\w.-]+/g, "_");
    const link = element("a", { className: "replay", textContent: name, download: name });
    link.href = `data:application/json;base64,${encoded}`;
    const command = element("code", { textContent: `refmta-fault replay ${name}` });
    return element("p", { className: "label" }, "case file: ", link, ", to be run by ", command);
  }

  function block(title, words) {
    return [
      element("p", { className: "label", textContent: title }),
      element("pre", { textContent: words }),
    ];
  }

  // Long words, folded behind their beginning.
  function folded(words) {
    if (words.length <= FOLDED) return text(words);
    const first = `${words.slice(0, FOLDED - 20).trimEnd()} ...`;
    return element("details", {}, element("summary", { className: "long", textContent: first }),
      element("pre", { textContent: words }));
  }

  function details(row, linked = true) {
    const parts = [];
    if (row.reason) parts.push(...block("reason", row.reason));
    for (const found of row.findings || []) {
      const known = found.known ? ` (known: ${found.known})` : "";
      parts.push(...block(`finding: ${found.name}${known}`, found.text));
    }
    for (const [name, words] of Object.entries(row.evidence || {})) parts.push(...block(name, words));
    parts.push(...block("case", row.file), ...(linked ? [replay(row)] : []));
    if (row.where) {
      const lost = row.lost ? `; ${row.lost} run(s) before were lost with their worker` : "";
      parts.push(element("p", { className: "label", textContent: `run by ${row.where}${lost}` }));
    }
    return parts;
  }

  // -- the matrix -------------------------------------------------------------------------------

  function counted(names, most = 2) {
    const rows = Object.entries(names);
    const said = rows.slice(0, most).map(([name, count]) => `${name} ${count.toLocaleString("en")}`);
    return said.join(", ") + (rows.length > most ? `, and ${rows.length - most} more` : "");
  }

  function box(cell) {
    const state = states.get(cell.state);
    const surprise = cell.state === "found" ? counted(cell.findings)
      : cell.state === "known" ? counted(cell.known) : "";
    const below = surprise || (["broken", "unavailable"].includes(cell.state) ? cell.reason : "");
    const short = below.length > 64 ? `${below.slice(0, 60).trimEnd()} ...` : below;
    const made = element("a", { href: `#${encodeURIComponent(cell.target)}/${encodeURIComponent(cell.harness)}` },
      text(cell.harness, "under"), text(`${state.sign} ${state.called}`, "head"));
    if (short) made.append(text(short, "more"));
    if (cell.faults) made.append(text(cell.trials, "more"));
    if (cell.cases) made.append(reach(cell));
    else if (cell.cut) made.append(text(cell.cut, "more"));
    made.setAttribute("aria-label", `${cell.target}, ${cell.harness}: ${cell.state}`);
    made.title = [surprise, cell.trials, cell.reach, cell.reason].filter(Boolean).join("\n");
    made.addEventListener("click", (event) => { event.preventDefault(); choose(cell.target, cell.harness); });
    return element("td", {}, coloured(made, cell.state));
  }

  function reach(cell) {
    const share = cell.planned ? Math.min(1, cell.cases / cell.planned) : 1;
    const bar = text("", "bar");
    bar.style.width = `${(100 * share).toFixed(1)}%`;
    const of = cell.planned ? ` of ${cell.planned}` : "";
    const words = text(`${cell.cases}${of} case${cell.cases === 1 && !of ? "" : "s"}`);
    return element("span", { className: "reach" }, words, element("span", { className: "whole" }, bar));
  }

  function matrix() {
    const heads = data.harnesses.map((each) =>
      element("th", { scope: "col" }, element("b", { textContent: each.name }), text(each.text)));
    const rows = data.targets.map((target) => element("tr", {},
      element("th", { scope: "row" }, element("b", { textContent: target }), text(data.versions[target] || "")),
      ...data.harnesses.map((harness) =>
        box(data.cells.find((cell) => cell.target === target && cell.harness === harness.name)))));
    put("matrix", element("thead", {}, element("tr", {}, element("th"), ...heads)), element("tbody", {}, ...rows));
  }

  // -- filters ----------------------------------------------------------------------------------

  const haystacks = new Map(data.rows.map((row) => [row, JSON.stringify(row).toLowerCase()]));

  function wanted() {
    const words = form.elements.text.value.trim().toLowerCase();
    return data.rows.filter((row) =>
      ["target", "harness", "state"].every((name) => {
        const value = form.elements[name].value;
        return !value || row[name] === value;
      }) && (!words || haystacks.get(row).includes(words)));
  }

  function what(row) {
    if (!row.findings.length) return row.reason || row.settings;
    const first = row.findings[0];
    const others = row.findings.length > 1 ? ` (and ${row.findings.length - 1} more)` : "";
    return `${first.name}: ${first.text}${others}`;
  }

  function line(row) {
    const cell = (of, words, className = "") => {
      const made = element("td", { textContent: words, className });
      made.dataset.of = of;
      return made;
    };
    const state = element("td", {}, badge(row.state));
    state.dataset.of = "state";
    const made = element("tr", { className: "case", tabIndex: 0, id: `case-${row.id}` },
      cell("server", row.target), cell("faults", row.harness), cell("seed", String(row.seed), "number"),
      state, cell("what", what(row), "what"), cell("tried", row.tried),
      cell("seconds", row.seconds.toFixed(1), "number"));
    const toggle = () => {
      const next = made.nextElementSibling;
      if (next && next.classList.contains("open")) next.remove();
      else {
        const inside = element("td", { colSpan: 7 }, ...details(row));
        made.after(element("tr", { className: "open" }, inside));
      }
    };
    made.addEventListener("click", toggle);
    made.addEventListener("keydown", (event) => event.key === "Enter" && toggle());
    return made;
  }

  function about() {
    const [target, harness] = [form.elements.target.value, form.elements.harness.value];
    const cell = data.cells.find((each) => each.target === target && each.harness === harness);
    const place = document.getElementById("about");
    place.replaceChildren();
    if (!cell) return;
    const said = [cell.trials, cell.reach, `${cell.seconds} s`];
    if (cell.left_out) said.push(`${cell.left_out} more cases are in results.jsonl`);
    place.append(element("p", {}, badge(cell.state), ` ${said.filter(Boolean).join("; ")}`));
    if (cell.reason) place.append(element("p", { className: "label" }, folded(cell.reason)));
  }

  function show() {
    const rows = wanted();
    body.replaceChildren(...rows.slice(0, limit).map(line));
    more.hidden = rows.length <= limit;
    document.getElementById("count").textContent = `${rows.length} of ${data.rows.length} listed`;
    about();
  }

  function choose(target, harness) {
    [form.elements.state.value, form.elements.text.value] = ["", ""];
    [form.elements.target.value, form.elements.harness.value] = [target, harness];
    limit = STEP;
    show();
    const first = body.querySelector("tr.case");
    if (first) first.click();
    document.getElementById("evidence").scrollIntoView();
    history.replaceState(null, "", `#${encodeURIComponent(target)}/${encodeURIComponent(harness)}`);
  }

  // -- what is there once -----------------------------------------------------------------------

  function sums() {
    put("sums", ...data.sums.map((each) => {
      const made = element("li", {}, element("b", { textContent: each.value }), text(each.name));
      if (each.state) made.style.setProperty("--state", data.colours[each.state][0]);
      return made;
    }));
  }

  function legend() {
    const used = new Set(data.cells.map((cell) => cell.state));
    put("legend", ...data.states.filter((state) => used.has(state.name)).map((state) =>
      element("li", {}, coloured(text(state.sign, "swatch"), state.name),
        element("b", { textContent: state.called }), `: ${state.text}`)));
  }

  function smallest() {
    const cards = data.smallest.map((each) => {
      const title = `${each.finding}: ${each.target}, ${each.harness}`;
      const often = `fails ${each.fails} of ${each.runs} times when it is run again`;
      const said = each.runs ? `after ${each.tries} tries (${each.ending}); ${often}`
        : "as it was found: the campaign ended before it was shrunk";
      const inside = element("details", {}, element("summary", { textContent: "evidence" }),
        ...details(each, false));
      const settings = JSON.stringify(JSON.parse(each.file).settings);
      const card = element("div", { className: "card" }, element("h3", { textContent: title }),
        element("code", { textContent: settings }),
        element("div", { className: "quiet", textContent: said }), replay(each), inside);
      card.style.setProperty("--state", data.colours.found[0]);
      return card;
    });
    put("smallest", ...cards);
    document.getElementById("shrunk").hidden = !cards.length;
  }

  function cells(of, ...values) {
    return values.map((value, place) => {
      const made = element("td", {}, value);
      made.dataset.of = of[place];
      return made;
    });
  }

  function known() {
    put("known", ...data.known.map((each) => {
      const row = element("tr", {}, ...cells(["server", "faults", "finding", "seen", "why"],
        each.target, each.harness, folded(each.finding), each.count.toLocaleString("en"), folded(each.why)));
      row.children[3].className = "number";
      return row;
    }));
    document.getElementById("knowns").hidden = !data.known.length;
  }

  function reading() {
    put("always", ...data.always.map((each) => element("li", { textContent: each })));
    put("reach", ...data.harnesses.map((each) => {
      const blind = element("ul", {}, ...each.blind.map((one) => element("li", { textContent: one })));
      return element("tr", {}, ...cells(["faults", "covers", "can't show"],
        element("b", { textContent: each.name }), each.reach, blind));
    }));
  }

  function versions() {
    const rows = [["this program", data.tool],
      ...data.targets.map((target) => [target, data.versions[target]]),
      ["the same plan again", element("code", { textContent: data.command })]];
    for (const [name, value] of rows.filter((row) => row[1])) {
      put("versions", element("dt", { textContent: name }), element("dd", {}, value));
    }
  }

  function options() {
    const names = {
      target: data.targets.map((name) => [name, name]),
      harness: data.harnesses.map((each) => [each.name, each.name]),
      state: data.states.map((each) => [each.name, each.called]),
    };
    for (const [name, values] of Object.entries(names)) {
      form.elements[name].append(...values.map(([value, words]) =>
        element("option", { textContent: words, value })));
    }
  }

  // -- pictures ---------------------------------------------------------------------------------

  const dark = matchMedia("(prefers-color-scheme: dark)");

  // In the colours of the page: it may be light or dark.
  function config() {
    const style = getComputedStyle(document.documentElement);
    const [ink, quiet, rule] = ["--ink", "--quiet", "--line"].map((name) => style.getPropertyValue(name).trim());
    return {
      background: "transparent", font: getComputedStyle(document.body).fontFamily,
      view: { stroke: null }, mark: { tooltip: true }, text: { color: ink },
      title: { color: ink, fontSize: 14, anchor: "start", fontWeight: 600 },
      legend: { labelColor: ink, labelFontSize: 13, symbolOpacity: 1 },
      axis: { labelColor: ink, titleColor: quiet, titleFontWeight: "normal", gridColor: rule,
        domainColor: rule, tickColor: rule, labelFontSize: 12 },
    };
  }

  async function draw() {
    const settings = { actions: false, renderer: "svg", ast: true, config: config() };
    document.getElementById("counted").hidden = !data.findings.length;
    document.getElementById("amounts").hidden = !data.tried.length;
    for (const name of ["found", "tried", "time"]) {
      const place = document.getElementById(name);
      if (place.closest("section").hidden) continue;
      const spec = structuredClone(data.pictures[name]);
      const wide = place.clientWidth;
      if (spec.concat) {
        const narrow = wide < 800;
        if (narrow) spec.columns = 1;
        for (const each of spec.concat) {
          each.width = Math.max(160, (narrow ? wide : wide / 2) - 140);
          if (narrow) each.encoding.color.legend.columns = 3;
        }
      } else {
        spec.width = wide;
        if (spec.layer && wide < 600) spec.layer.length = 1; // no room for words behind the bars
      }
      await vegaEmbed(place, spec, settings);
    }
    document.body.dataset.drawn = "yes";
  }

  sums();
  matrix();
  legend();
  smallest();
  known();
  reading();
  versions();
  options();
  form.addEventListener("input", () => { limit = STEP; show(); });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => { limit = STEP; show(); }));
  more.addEventListener("click", () => { limit += STEP; show(); });
  dark.addEventListener("change", draw);
  show();
  const [chosen, faults] = location.hash.slice(1).split("/").map(decodeURIComponent);
  draw().then(() => { if (chosen && faults) choose(chosen, faults); });
})();
