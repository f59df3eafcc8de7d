"use strict";
// The page of `unmasked serve`: sends files, asks for their jobs, shows what was found. Texts from outside are
// only ever set as text. Nothing is asked of any other server.

const SENDING = 2; // uploads at a time
const ASK_MS = 1200;
const SHOWN = 3; // frames of each person
const PEOPLE_MAX = 6;
const ORDER = ["likely fake", "inconclusive", "likely real", "not judged", "failed", "stopped"];
const STAGES = { "waiting": 0.1, "finding faces": 0.35, "scoring": 0.75, "finished": 1 };
const KINDS = { calibration: "where the threshold was fitted", source: "as its training material", unseen: "unlike its training material" };
const NOT_COMPARED = "not compared with the material that the detector learned from: none is stored for these weights";
const BOX = { "likely fake": "bad", "inconclusive": "warning" };

const files = []; // of this tab: {name, path, file, share, job, wrong}
let chosen = null;
let sort = { key: null, down: false };
let detector = null;
let sending = 0;
const pictures = [];

const at = (id) => document.getElementById(id);
const token = () => sessionStorage.getItem("unmasked-token") || "";
const headers = () => (token() ? { Authorization: `Bearer ${token()}` } : {});

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "onclick") element.addEventListener("click", value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function draw(tag, attributes = {}, text = null) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== null) element.textContent = text;
  return element;
}

function say(text) { at("status").textContent = text; }

async function ask(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: headers() });
  if (answer.status === 401) askForToken();
  if (!answer.ok) throw Object.assign(new Error((await problemOf(answer)) || `status ${answer.status}`), { status: answer.status });
  return answer;
}

async function problemOf(answer) {
  try { return (await answer.json()).detail; } catch { return ""; }
}

function askForToken() {
  const form = at("token-form");
  if (form.hidden) { form.hidden = false; at("token").focus(); }
}

async function start() {
  try {
    detector = await (await ask("/v1/detector")).json();
  } catch (error) {
    say(error.status === 401 ? "" : `The server does not answer: ${error.message}`);
    return;
  }
  at("token-form").hidden = true;
  const size = detector.limits.bytes_max / 1e6;
  at("limits").textContent = `At most ${size >= 1 ? Math.round(size) : size} MB a file. Answers are kept for ${detector.limits.retain_h} hours.`;
  showDetector();
  for (const id of JSON.parse(sessionStorage.getItem("unmasked-jobs") || "[]")) {
    if (files.some((one) => one.job && one.job.id === id)) continue;
    try {
      const job = await (await ask(`/v1/jobs/${id}`)).json();
      files.push({ name: job.name, job, share: 1, wrong: "" });
    } catch { /* removed, or too old */ }
  }
  remember();
  show();
}

function showDetector() {
  const short = `${detector.sha256.slice(0, 16)}…`;
  at("about").hidden = false;
  at("detector").replaceChildren(
    make("dl", {},
      make("dt", {}, "detector"), make("dd", {}, `${detector.detector} (${detector.network || detector.architecture}), weights ${short}`),
      make("dt", {}, "looks at"), make("dd", {}, `${detector.frames} frames of a video, every face in them`),
      make("dt", {}, "threshold"), make("dd", {}, detector.threshold.toFixed(3) + (detector.band && detector.band.high > detector.band.low ? `, not answered between ${detector.band.low.toFixed(3)} and ${detector.band.high.toFixed(3)}` : ""))),
    ...detector.sentences.map((one) => make("p", {}, one)));
}

function remember() {
  sessionStorage.setItem("unmasked-jobs", JSON.stringify(files.filter((one) => one.job).map((one) => one.job.id)));
}

// Sending

function add(list) {
  const named = [...list].filter((file) => !file.name.startsWith("."));
  for (const file of named) files.push({ name: file.webkitRelativePath || file.name || "pasted.png", file, job: null, share: 0, wrong: "" });
  if (named.length) say(named.length === 1 ? `${named[0].name || "The picture"} is sent.` : `${named.length} files are sent.`);
  if (named.length === 1) chosen = files[files.length - 1];
  show();
  pumpFiles();
}

function pumpFiles() {
  for (const one of files) {
    if (sending >= SENDING) return;
    if (one.file && !one.job && !one.wrong && !one.isSending) send(one);
  }
}

function send(one) {
  sending += 1;
  one.isSending = true;
  if (!one.file.size) {
    ended(one, "The file is empty: it has zero bytes.");
    return;
  }
  if (detector && one.file.size > detector.limits.bytes_max) {
    ended(one, `The file has ${(one.file.size / 1e6).toFixed(0)} MB; at most ${(detector.limits.bytes_max / 1e6).toFixed(0)} are taken.`);
    return;
  }
  const request = new XMLHttpRequest(); // fetch does not say how much was sent
  const name = encodeURIComponent(one.name.split("/").pop().slice(-200));
  request.open("POST", `/v1/jobs?name=${name}&keep=${at("keep").checked}`);
  for (const [key, value] of Object.entries(headers())) request.setRequestHeader(key, value);
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.upload.onprogress = (event) => { one.share = event.total ? event.loaded / event.total : 0; showRow(one); };
  request.onerror = () => ended(one, "The connection broke off; send the file again.");
  request.onload = () => {
    if (request.status === 202) {
      one.job = JSON.parse(request.responseText);
      one.file = null;
      remember();
      ended(one, "");
    } else if (request.status === 429) { // the queue is full: come again when the server says
      const wait = Number(request.getResponseHeader("Retry-After") || 2);
      sending -= 1;
      one.note = "waits for a place in the queue";
      showRow(one);
      setTimeout(() => { one.isSending = false; one.note = ""; pumpFiles(); }, 1000 * wait * (0.7 + 0.6 * Math.random()));
    } else {
      if (request.status === 401) askForToken();
      let said = "";
      try { said = JSON.parse(request.responseText).detail; } catch { said = `status ${request.status}`; }
      ended(one, said);
    }
  };
  request.send(one.file);
}

function ended(one, wrong) {
  sending -= 1;
  one.isSending = false;
  one.wrong = wrong;
  if (wrong) say(`${one.name}: ${wrong}`);
  show();
  pumpFiles();
}

// Asking

const isOpen = (one) => one.job && (one.job.state === "queued" || one.job.state === "running");

async function askForJobs() {
  for (const one of files.filter(isOpen).slice(0, 20)) {
    try {
      const job = await (await ask(`/v1/jobs/${one.job.id}`)).json();
      const changed = JSON.stringify([job.state, job.stage, job.before]) !== JSON.stringify([one.job.state, one.job.stage, one.job.before]);
      one.job = job;
      if (!changed) continue;
      if (!isOpen(one)) {
        say(`${one.name}: ${wordOf(one)}.`);
        if (files.length === 1) chosen = one;
      }
      showRow(one);
      if (one === chosen) showDetail();
    } catch (error) {
      if (error.status === 404) { one.job = null; one.wrong = "It was removed."; show(); }
    }
  }
  setTimeout(askForJobs, ASK_MS);
}

// The table

function wordOf(one) {
  if (one.wrong) return one.wrong;
  if (!one.job) return one.note || (one.isSending ? `sending, ${Math.round(100 * one.share)} %` : "waits to be sent");
  if (one.job.state === "done") return one.job.result ? one.job.result.finding.verdict : "removed";
  if (one.job.state === "queued") return one.job.before ? `waits, ${one.job.before} before it` : "waits";
  if (one.job.state === "running") return one.job.stage === "waiting" ? "begins" : one.job.stage;
  return one.job.state;
}

function valueOf(one, key) {
  const found = one.job && one.job.result ? one.job.result.finding : null;
  if (key === "name") return one.name.toLowerCase();
  if (key === "verdict") { const place = ORDER.indexOf(found ? found.verdict : one.job ? one.job.state : "failed"); return place < 0 ? ORDER.length : place; }
  if (key === "score") return found && found.score !== null ? found.score : null;
  if (key === "people") return found ? found.people : null;
  return one.job ? one.job.seconds : null;
}

function sorted() {
  if (!sort.key) return files;
  const up = sort.down ? -1 : 1;
  return [...files].sort((a, b) => {
    const [x, y] = [valueOf(a, sort.key), valueOf(b, sort.key)];
    if (x === null || y === null) return (x === null) - (y === null); // what has none comes last, either way
    return x < y ? -up : x > y ? up : 0;
  });
}

function show() {
  at("list").hidden = !files.length;
  const kept = document.activeElement && document.activeElement.dataset ? document.activeElement.dataset.row : null;
  at("rows").replaceChildren(...sorted().map((one) => (one.row = rowOf(one))));
  if (kept) { const again = at("rows").querySelector(`[data-row="${kept}"]`); if (again) again.focus(); }
  showDetail();
}

function showRow(one) {
  const row = rowOf(one);
  const had = one.row && one.row.contains(document.activeElement);
  if (one.row) one.row.replaceWith(row);
  one.row = row;
  if (had && row.querySelector("button")) row.querySelector("button").focus();
}

function rowOf(one) {
  const found = one.job && one.job.result ? one.job.result.finding : null;
  const word = wordOf(one);
  const answer = make("td", {}, make("span", { class: word === "likely fake" ? "word-fake" : word === "inconclusive" ? "word-open" : "" }, word));
  if (!one.wrong && (!one.job || isOpen(one))) {
    const value = one.job ? STAGES[one.job.stage] : one.isSending ? 0.1 * one.share : 0;
    answer.append(make("progress", { max: 1, value, "aria-label": `Progress of ${one.name}` }));
  }
  const opens = found || (one.job && !isOpen(one));
  const name = opens
    ? make("button", { type: "button", class: "open", "data-row": files.indexOf(one), onclick: () => { chosen = one; show(); at("detail-title").focus(); } }, one.name)
    : one.name;
  return make("tr", { class: one === chosen ? "chosen" : null },
    make("td", {}, name), answer,
    make("td", { class: "number" }, found && found.score !== null ? found.score.toFixed(3) : "–"),
    make("td", { class: "number" }, found ? String(found.people) : "–"),
    make("td", { class: "number" }, one.job && one.job.seconds !== null ? one.job.seconds.toFixed(1) : "–"));
}

// One file

function showDetail() {
  const place = at("detail");
  const one = chosen;
  if (!one || !one.job || isOpen(one)) { place.hidden = true; place.replaceChildren(); place.dataset.job = ""; return; }
  if (place.dataset.job === one.job.id) return;
  for (const address of pictures.splice(0)) URL.revokeObjectURL(address);
  place.dataset.job = one.job.id;
  place.hidden = false;
  const title = make("h2", { id: "detail-title", tabindex: "-1" }, one.name);
  place.setAttribute("aria-labelledby", "detail-title");
  const { job } = one;
  const gone = job.deleted ? "The uploaded file has been deleted." : "The uploaded file is kept on the server until you remove the job.";
  if (!job.result) {
    place.replaceChildren(title, make("div", { class: "box warning" }, make("p", { class: "answer" }, job.state === "stopped" ? "Stopped" : "No answer"), make("p", {}, job.reason)), make("p", { class: "soft" }, gone), actions(one));
    return;
  }
  const { finding, people } = job.result;
  const box = make("div", { class: `box ${BOX[finding.verdict] || ""}` },
    make("p", { class: "answer" }, finding.verdict[0].toUpperCase() + finding.verdict.slice(1)),
    ...finding.sentences.map((text, n) => make("p", {}, n ? text : belowVerdict(finding))),
    finding.verdict === "likely real" ? make("p", {}, "“Likely real” says that this detector found nothing, not that nothing was done to the file.") : null);
  place.replaceChildren(title, box);
  const reasons = finding.reasons.map((reason) => `${reason.words} (${reason.code})`);
  if (people.length && !job.result.is_compared) reasons.push(NOT_COMPARED);
  if (reasons.length) place.append(make("h3", {}, "Reasons"), make("ul", {}, ...reasons.map((text) => make("li", {}, text))));
  place.append(make("h3", {}, "Take it with you"), actions(one), make("p", { class: "soft" }, gone));
  for (const person of people.slice(0, PEOPLE_MAX)) showPerson(place, job, person);
  if (people.length > PEOPLE_MAX) place.append(make("p", { class: "soft" }, `${people.length - PEOPLE_MAX} more people are in the report.`));
  place.append(make("h3", {}, "How often the detector errs"), rates(job.result));
  if (job.result.warnings.length) place.append(make("h3", {}, "Noticed while decoding"), make("ul", {}, ...job.result.warnings.map((text) => make("li", {}, text))));
  redraw();
}

// The word stands above it already.
function belowVerdict(finding) {
  const rest = finding.sentences[0].slice(finding.verdict.length).replace(/^[ :,]+/, "");
  return rest.charAt(0).toUpperCase() + rest.slice(1);
}

function actions(one) {
  const { job } = one;
  const line = make("div", { class: "line" });
  if (job.result) {
    const links = [["Download the case (ZIP)", "case", `case-${job.id.slice(0, 8)}.zip`], ["Report", "report", `report-${job.id.slice(0, 8)}.html`]];
    for (const [words, part, name] of links) {
      const path = `/v1/jobs/${job.id}/${part}`;
      line.append(token()
        ? make("button", { type: "button", onclick: () => save(path, name) }, part === "report" ? "Download the report" : words)
        : make("a", part === "case" ? { class: "button", href: path, download: name } : { class: "button", href: path, target: "_blank", rel: "noopener" }, words));
    }
  }
  line.append(make("button", { type: "button", onclick: () => remove(one) }, "Remove it from the server"));
  return line;
}

async function save(path, name) {
  try {
    const address = URL.createObjectURL(await (await ask(path)).blob());
    make("a", { href: address, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60000);
  } catch (error) { say(error.message); }
}

async function remove(one) {
  try { await ask(`/v1/jobs/${one.job.id}`, { method: "DELETE" }); } catch (error) { if (error.status !== 404) { say(error.message); return; } }
  files.splice(files.indexOf(one), 1);
  chosen = null;
  remember();
  show();
  say(`${one.name} was removed.`);
  at("choose").focus();
}

function showPerson(place, job, person) {
  const { result } = job;
  const looks = result.looks.filter((look) => look.person === person.number);
  const score = person.score === null ? "no score" : `score ${person.score.toFixed(3)}`;
  place.append(make("h3", {}, `Person ${person.number}: ${person.verdict}, ${score}`));
  for (const reason of person.reasons) place.append(make("p", {}, `${reason.words} (${reason.code})`));
  if (result.kind === "video" && looks.length > 1) place.append(make("div", { class: "strip", "data-person": person.number }));
  if (person.score === null) return;
  const top = [...looks].sort((a, b) => b.score - a.score).slice(0, SHOWN);
  const { maps } = result;
  const what = top.length > 1 ? "The frames with the highest scores" : "The face";
  place.append(make("p", { class: "soft" }, what + (maps && !maps.sentences.length ? ` and where in them the detector found evidence (${maps.method}; the brighter, the more; it says nothing of how much):` : ":")));
  place.append(make("div", { class: "frames" }, ...top.map((look) => frame(job, person, look))));
  if (maps && maps.sentences.length) place.append(make("p", { class: "soft" }, `In grey: no map can be shown (${maps.method}): ${maps.sentences.join("; ")}.`));
}

function frame(job, person, look) {
  const when = look.time_s === null ? `frame ${look.frame}` : `${look.time_s.toFixed(2)} s`;
  const { maps } = job.result;
  const map = maps && maps.shown.find((one) => one.crop === look.crop);
  const pair = make("div", { class: "pair" }, picture(`/v1/jobs/${job.id}/${look.crop}`, `Person ${person.number} at ${when}`));
  if (map && map.is_blank) pair.append(make("p", { class: "none" }, "no evidence for a fake in this frame"));
  else if (map) pair.append(picture(`/v1/jobs/${job.id}/${map.file}`, maps.sentences.length ? "The same in grey: its map fails its tests" : "The same with the map: bright is where most of the evidence lies"));
  return make("figure", {}, pair, make("figcaption", {}, `${when}: score ${look.score.toFixed(3)}`));
}

function picture(path, alt) {
  const image = make("img", { alt, width: 256, height: 256 });
  ask(path).then((answer) => answer.blob()).then((blob) => {
    const address = URL.createObjectURL(blob);
    pictures.push(address);
    image.src = address;
  }).catch(() => { image.alt = `${alt} (not there any more)`; });
  return image;
}

function rates(result) {
  if (!result.performance.length) return make("p", {}, "It was not measured.");
  const share = (value, interval) => value === null ? "not enough data" : `${Math.round(100 * value)}\u00a0%` + (interval && interval[0] !== null && interval[1] !== null ? ` [${Math.round(100 * interval[0])},\u00a0${Math.round(100 * interval[1])}]` : "");
  const rows = result.performance.map((one) => make("tr", {},
    make("th", { scope: "row" }, `${one.dataset}, ${KINDS[one.kind]}`),
    make("td", { class: "number" }, share(one.fpr, one.fpr_ci)), make("td", { class: "number" }, share(one.fnr, one.fnr_ci)),
    make("td", { class: "number" }, `${one.real_videos}\u00a0+\u00a0${one.fake_videos}`)));
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Measured errors" }, make("table", {},
    make("caption", {}, `At the threshold ${result.threshold.toFixed(3)}; in brackets the 95 % interval.`),
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "measured on"), make("th", { scope: "col", class: "number" }, "real called fake"), make("th", { scope: "col", class: "number" }, "fakes missed"), make("th", { scope: "col", class: "number" }, "real + fake"))),
    make("tbody", {}, ...rows)));
}

// Score over time, as wide as there is room: letters keep their size on a phone.
function redraw() {
  if (!chosen || !chosen.job || !chosen.job.result) return;
  for (const place of document.querySelectorAll(".strip")) strip(place, chosen.job.result, Number(place.dataset.person));
}

function strip(place, result, number) {
  const looks = result.looks.filter((look) => look.person === number);
  const timed = looks.every((look) => look.time_s !== null);
  const points = looks.map((look) => [timed ? look.time_s : look.frame, look.score]).sort((a, b) => a[0] - b[0]);
  const [width, height, left, right, top, bottom] = [Math.max(240, place.clientWidth), 152, 34, 8, 8, 26];
  const [first, last] = [points[0][0], points[points.length - 1][0]];
  const x = (value) => left + (width - left - right) * (last > first ? (value - first) / (last - first) : 0.5);
  const y = (value) => top + (height - top - bottom) * (1 - value);
  const unit = timed ? " s" : "";
  const place_of = (value) => timed ? value.toFixed(1) : String(value);
  const scores = points.map((point) => point[1]);
  const words = `Score of person ${number} over time: between ${Math.min(...scores).toFixed(2)} and ${Math.max(...scores).toFixed(2)} from ${place_of(first)} to ${place_of(last)}${unit}; fake above ${result.threshold.toFixed(2)}`;
  const svg = draw("svg", { role: "img", "aria-label": words, viewBox: `0 0 ${width} ${height}` });
  if (result.band && result.band.high > result.band.low) svg.append(draw("rect", { class: "band", x: left, width: width - left - right, y: y(result.band.high), height: y(result.band.low) - y(result.band.high) }));
  svg.append(draw("line", { class: "axis", x1: left, x2: width - right, y1: y(0), y2: y(0) }), draw("line", { class: "axis", x1: left, x2: left, y1: y(0), y2: y(1) }));
  svg.append(draw("line", { class: "threshold", x1: left, x2: width - right, y1: y(result.threshold), y2: y(result.threshold) }));
  for (const value of [0, 0.5, 1]) svg.append(draw("text", { x: left - 6, y: y(value) + 5, "text-anchor": "end" }, String(value)));
  svg.append(draw("text", { x: left, y: height - 7 }, place_of(first) + unit), draw("text", { x: width - right, y: height - 7, "text-anchor": "end" }, place_of(last) + unit));
  svg.append(draw("text", { x: (left + width - right) / 2, y: height - 7, "text-anchor": "middle" }, "dashed: fake above"));
  svg.append(draw("polyline", { class: "trace", points: points.map((point) => `${x(point[0])},${y(point[1])}`).join(" ") }));
  for (const point of points) svg.append(draw("circle", { class: "dot", cx: x(point[0]), cy: y(point[1]), r: 3 }));
  place.replaceChildren(svg);
}

// Doors

for (const heading of document.querySelectorAll("th[data-key]")) {
  heading.querySelector("button").addEventListener("click", () => {
    const { key } = heading.dataset;
    sort = { key, down: sort.key === key ? !sort.down : key === "score" || key === "people" || key === "seconds" };
    for (const other of document.querySelectorAll("th[data-key]")) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", sort.down ? "descending" : "ascending");
    show();
  });
}
at("choose").addEventListener("click", () => at("files").click());
at("choose-folder").addEventListener("click", () => at("folder").click());
for (const id of ["files", "folder"]) at(id).addEventListener("change", (event) => { add(event.target.files); event.target.value = ""; });
at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("unmasked-token", at("token").value.trim());
  for (const one of files) if (one.file) one.wrong = "";
  start().then(() => { if (!at("token-form").hidden) say("That token is not known here."); else { say("The token is taken."); at("choose").focus(); } pumpFiles(); });
});
document.addEventListener("paste", (event) => { if (event.clipboardData.files.length) { event.preventDefault(); add(event.clipboardData.files); } });
document.addEventListener("dragover", (event) => { event.preventDefault(); at("drop").classList.add("over"); });
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) at("drop").classList.remove("over"); });
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry && item.webkitGetAsEntry()).filter(Boolean);
  add(entries.some((entry) => entry.isDirectory) ? (await Promise.all(entries.map(inside))).flat() : event.dataTransfer.files);
});

async function inside(entry) {
  if (entry.isFile) return [await new Promise((done, fail) => entry.file(done, fail))];
  const reader = entry.createReader();
  const found = [];
  for (;;) { // a reader gives a hundred at a time
    const part = await new Promise((done, fail) => reader.readEntries(done, fail));
    if (!part.length) break;
    found.push(...part);
  }
  return (await Promise.all(found.map(inside))).flat();
}

new ResizeObserver(redraw).observe(at("main"));
start();
askForJobs();
