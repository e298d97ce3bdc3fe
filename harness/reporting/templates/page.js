"use strict";
// Filters, and the dialog that tells what is behind a number. Everything else is readable without.

const data = JSON.parse(document.getElementById("data").textContent);
const numbers = [...document.querySelectorAll("td[data-status]")];
const filter = document.getElementById("filter");
const dialog = document.getElementById("behind");
const profile = document.documentElement.dataset.profile;

/** An element with text and children; text is never read as HTML. */
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Ours and the paper's part of a number. */
function parts(number) {
  const next = number.nextElementSibling;
  return next && next.matches(".paper:not([data-status])") ? [number, next] : [number];
}

// --- filters ---

/** By name of a group of boxes, which of them are ticked. */
function ticked() {
  const chosen = { status: [], verdict: [], collapsed: [] };
  for (const box of filter.querySelectorAll("input:checked")) chosen[box.name].push(box.value);
  return chosen;
}

/** Within a group any will do; the groups must agree. A collapse counts among the states. */
function matches(number, chosen) {
  const { status, verdict, collapsed } = number.dataset;
  const states = chosen.status.length + chosen.collapsed.length;
  return (
    (!states || chosen.status.includes(status) || (chosen.collapsed.length > 0 && collapsed !== undefined)) &&
    (!chosen.verdict.length || chosen.verdict.includes(verdict))
  );
}

/** Hide rows and tables without a number that matches; in the rows that stay, dim the others. */
function show() {
  const chosen = ticked();
  const all = !Object.values(chosen).some((names) => names.length);
  const shown = new Set(numbers.filter((number) => all || matches(number, chosen)));
  const rows = new Set([...shown].map((number) => number.closest("tr")));
  for (const number of numbers) {
    for (const part of parts(number)) part.classList.toggle("dim", !shown.has(number));
    number.closest("tr").hidden = !rows.has(number.closest("tr"));
  }
  for (const article of document.querySelectorAll("article")) {
    article.hidden = !all && !article.querySelector("tbody tr:not([hidden])");
  }
  document.body.classList.toggle("filtered", !all);
  filter.querySelector("output").value = all ? "" : `${shown.size} of ${numbers.length} numbers shown`;
  filter.querySelector("[type=reset]").hidden = all;
}

// --- the dialog ---

/** `{a: {b: 1}}` as pairs `a.b`, `1`. */
function flat(value, name = "") {
  if (value === null || typeof value !== "object") return [[name, value === null ? "–" : String(value)]];
  if (Array.isArray(value) && !value.some((item) => item !== null && typeof item === "object")) {
    return [[name, value.join(", ")]];
  }
  return Object.entries(value).flatMap(([key, item]) => flat(item, name ? `${name}.${key}` : key));
}

function definitions(pairs) {
  const list = make("dl", {});
  for (const [term, said] of pairs) list.append(make("dt", {}, term), make("dd", {}, said));
  return list;
}

function command(text) {
  return make("code", {}, text);
}

/** One run: its key and state, then what is known of it. */
function runBlock(role, key) {
  const run = data.runs[key];
  const state = run.share === undefined ? run.state : `${run.state}, ${Math.round(100 * run.share)} % done`;
  const pairs = [["key", command(key)], ["state", state]];
  if (run.commit) pairs.push(["commit", command(run.commit)]);
  if (run.candidates) pairs.push(["among", command(run.candidates.join(" "))]);
  for (const name of ["chosen", "hardware", "cost", "error"]) if (run[name]) pairs.push([name, run[name]]);
  for (const note of run.notes || []) pairs.push(["note", note]);
  if (run.link) pairs.push(["MLflow", make("a", { href: run.link, rel: "noreferrer" }, run.mlflow)]);
  else if (run.mlflow) pairs.push(["MLflow", make("span", {}, command(run.mlflow), " (", command("make ui"), ")")]);
  return make("section", {}, make("h4", {}, `${role}: ${run.kind}`), definitions(pairs));
}

/** The specs of all seeds; they are alike but for the seed, so most cells have one. */
function specBlocks(title, keys) {
  const places = new Set(keys.map((key) => data.runs[key].spec));
  return [...places].map((place) =>
    make("details", {}, make("summary", {}, title), definitions(flat(data.specs[place]))));
}

function open(number) {
  const { cell, metric, status } = number.dataset;
  const seeds = data.cells[cell] || [];
  const values = data.values[`${cell}:${metric}`] || {};
  const ours = number.querySelector("button").textContent;
  const paper = parts(number)[1];
  const verdict = number.querySelector(".verdict");
  const summary = [["ours", ours], ["paper", paper ? paper.textContent : "–"], ["metric", metric], ["status", status]];
  if (verdict) summary.push(["verdict", verdict.textContent.trim()]);
  summary.push(["in full", command(`harness explain table${cell} --profile ${profile}`)]);
  const body = make("div", {}, definitions(summary));
  for (const { seed, subject, evaluation } of seeds) {
    body.append(
      make("section", { class: "seed" },
        make("h3", {}, `Seed ${seed}: ${values[seed] ?? "no number"}`),
        make("div", { class: "pair" }, runBlock("encoder", subject), runBlock("evaluation", evaluation))));
  }
  body.append(...specBlocks("Spec of the encoder", seeds.map((one) => one.subject)));
  body.append(...specBlocks("Spec of the evaluation", seeds.map((one) => one.evaluation)));
  dialog.querySelector("h2").textContent = `Table ${cell.replace(":", ", ")}`;
  dialog.lastElementChild.replaceWith(body);
  dialog.showModal();
  dialog.scrollTop = 0;
}

// --- wiring ---

document.documentElement.classList.add("scripted");
filter.hidden = false;
filter.addEventListener("change", show);
filter.addEventListener("reset", () => setTimeout(show));
show();
for (const number of numbers) {
  const button = number.querySelector("button");
  if (button) button.addEventListener("click", () => open(number));
}
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close(); // beside the dialog, on its backdrop
});
