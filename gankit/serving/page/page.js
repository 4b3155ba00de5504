"use strict";
// The page of gankit serve. It loads nothing from elsewhere, and builds elements instead of HTML from text.

const $ = (id) => document.getElementById(id);
const state = { models: [], files: [], limits: null, token: sessionStorage.getItem("gankit-token") || "", request: null, stop: false };

const task = () => document.querySelector("input[name=task]:checked").value;
const model = () => state.models.find((each) => each.name === $("model").value);
const fileSize = (bytes) => bytes < 2 ** 20 ? `${Math.ceil(bytes / 1024)} KiB` : `${(bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 1 : 0)} MiB`;

function say(text) { $("status").textContent = text; }

function showError(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

function authorised() { return state.token ? { Authorization: `Bearer ${state.token}` } : {}; }

async function loadModels() {
  let answer;
  try {
    answer = await fetch("/models", { headers: authorised() });
  } catch {
    showError("The service does not answer. Is gankit serve still running?");
    return false;
  }
  if (answer.status === 401) {
    $("token-field").hidden = false;
    if (state.token) showError("The token is wrong.");
    $("token").focus();
    return false;
  }
  const body = await answer.json();
  if (!answer.ok) {
    showError(body.detail);
    return false;
  }
  state.models = body.models;
  state.limits = body;
  $("token-field").hidden = true;
  $("limits").textContent = `up to ${fileSize(body.max_bytes)} and ${body.max_pixels / 1e6} megapixels each`;
  for (const input of document.querySelectorAll("input[name=task]")) {
    input.disabled = !state.models.some((each) => each.task === input.value);
  }
  const checked = document.querySelector("input[name=task]:checked");
  if (checked.disabled) document.querySelector("input[name=task]:enabled").checked = true;
  showTask();
  return true;
}

function showTask() {
  const generates = task() === "generate";
  $("images").hidden = generates;
  $("generate-fields").hidden = !generates;
  $("model").replaceChildren(
    ...state.models.filter((each) => each.task === task()).map((each) => new Option(each.name, each.name, false, each.default))
  );
  showModel();
  showError("");
}

function showModel() {
  const chosen = model();
  if (!chosen) return;
  const takes = { image: "", mask: " It takes masks of two values.", labels: " It takes label maps." }[chosen.input_kind];
  const end = (text) => (text && !text.endsWith(".") ? `${text}.` : text);
  $("summary").textContent = `${end(chosen.summary)} ${end(chosen.limits)}${takes}`.trim();
  $("strength-field").hidden = !chosen.strength;
  $("strength").value = chosen.own_strength;
  showStrength();
  $("direction-field").hidden = chosen.directions.length === 0;
  $("class-field").hidden = chosen.classes === 0;
  const classes = Array.from({ length: chosen.classes }, (_, index) => new Option(`Class ${index}`, index));
  $("class").replaceChildren(new Option("Every class in turn", ""), ...classes);
  showRun();
}

function showStrength() { $("strength-value").textContent = Number($("strength").value).toFixed(2); }

function showRun() {
  const count = state.files.length;
  const verb = { upscale: "Upscale", translate: "Translate", generate: "Generate" }[task()];
  $("run").textContent = task() === "generate" || count < 2 ? verb : `${verb} ${count} images`;
  $("run").disabled = state.request !== null || (task() !== "generate" && count === 0);
}

function addFiles(files) {
  showError("");
  for (const file of files) {
    if (state.limits && file.size > state.limits.max_bytes) {
      showError(`${file.name} has ${fileSize(file.size)}; the service takes ${fileSize(state.limits.max_bytes)}.`);
    } else {
      state.files.push({ file, url: URL.createObjectURL(file) });
    }
  }
  showFiles();
}

function showFiles() {
  $("chosen").replaceChildren(...state.files.map((item) => {
    const line = document.createElement("li");
    const image = document.createElement("img");
    image.src = item.url;
    image.alt = "";
    image.addEventListener("error", () => image.removeAttribute("src"));  // no image, or one that the browser cannot show
    const name = document.createElement("span");
    name.textContent = item.file.name;
    name.title = `${item.file.name}, ${fileSize(item.file.size)}`;
    const remove = document.createElement("button");
    remove.type = "button";
    remove.textContent = "×";
    remove.setAttribute("aria-label", `Remove ${item.file.name}`);
    remove.addEventListener("click", () => {
      state.files = state.files.filter((each) => each !== item);
      showFiles();
      $("file").focus();
    });
    line.append(image, name, remove);
    return line;
  }));
  showRun();
}

function query() {
  const values = new URLSearchParams({ model: $("model").value, format: $("format").value });
  if (!$("strength-field").hidden) values.set("strength", $("strength").value);
  if (!$("direction-field").hidden) values.set("direction", $("direction").value);
  if (task() === "generate") {
    values.set("n", $("n").value);
    values.set("seed", $("seed").value);
    if ($("class").value !== "") values.set("class", $("class").value);
  }
  return values;
}

// XMLHttpRequest, because fetch does not report the progress of an upload.
function send(file, label) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    state.request = request;
    request.open("POST", `/${task()}?${query()}`);
    request.responseType = "blob";
    for (const [name, value] of Object.entries(authorised())) request.setRequestHeader(name, value);
    const began = performance.now();
    const clock = setInterval(() => {
      if (uploaded) say(`${label}: running, ${Math.round((performance.now() - began) / 1000)} s`);
    }, 500);
    let uploaded = !file;
    request.upload.addEventListener("progress", (event) => {
      if (event.lengthComputable && event.loaded < event.total) {
        $("progress").value = event.loaded / event.total;
        say(`${label}: uploading, ${Math.round(100 * event.loaded / event.total)} %`);
      }
    });
    request.upload.addEventListener("load", () => {
      uploaded = true;
      $("progress").removeAttribute("value");
      say(`${label}: running`);
    });
    request.addEventListener("loadend", () => clearInterval(clock));
    request.addEventListener("error", () => reject(new Error("The service does not answer. Is gankit serve still running?")));
    request.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")));
    request.addEventListener("load", async () => {
      if (request.status === 200) {
        resolve({ blob: request.response, request, seconds: (performance.now() - began) / 1000 });
        return;
      }
      let detail = `The service answered with the status ${request.status}.`;
      try { detail = JSON.parse(await request.response.text()).detail; } catch { /* keep the status */ }
      const error = new Error(detail);
      error.status = request.status;
      error.wait = Number(request.getResponseHeader("Retry-After") || 0);
      reject(error);
    });
    let body = null;
    if (file) {
      body = new FormData();
      body.append("image", file);
    }
    request.send(body);
  });
}

async function patiently(file, label) {
  for (;;) {
    try {
      return await send(file, label);
    } catch (error) {
      if (error.status !== 429 || state.stop) throw error;
      say(`${label}: the service is busy; trying again in ${error.wait} s`);
      await new Promise((resolve) => setTimeout(resolve, 1000 * error.wait));
      if (state.stop) throw new DOMException("cancelled", "AbortError");
    }
  }
}

async function run() {
  showError("");
  if (state.models.length === 0) {
    state.token = $("token").value.trim();
    sessionStorage.setItem("gankit-token", state.token);
    await loadModels();
    return;
  }
  state.stop = false;
  state.request = {};
  showRun();
  $("cancel").hidden = false;
  $("progress-field").hidden = false;
  const work = task() === "generate" ? [null] : [...state.files];
  const failures = [];
  let done = 0;
  for (const [index, item] of work.entries()) {
    const label = item ? (work.length > 1 ? `${item.file.name} (${index + 1} of ${work.length})` : item.file.name) : "Samples";
    say(`${label}: sending`);
    $("progress").removeAttribute("value");
    try {
      showResult(item, await patiently(item && item.file, label));
      done += 1;
    } catch (error) {
      if (error.name === "AbortError") break;
      failures.push(error.message);
      if (error.status === 401) {
        state.models = [];
        $("token-field").hidden = false;
      }
    }
    if (state.stop) break;
  }
  state.request = null;
  $("cancel").hidden = true;
  $("progress-field").hidden = true;
  say(state.stop ? `Cancelled; ${done} done.` : done ? `${done} done.` : "");
  if (failures.length) showError(failures.join("\n"));
  showRun();
}

function showResult(item, { blob, request, seconds }) {
  $("empty")?.remove();
  const result = $("result").content.cloneNode(true).querySelector("article");
  const url = URL.createObjectURL(blob);
  const chosen = request.getResponseHeader("Content-Disposition") || "";
  const name = decodeURIComponent(chosen.split("filename*=UTF-8''")[1] || "result");
  result.querySelector("h2").textContent = name;
  const size = (request.getResponseHeader("X-Gankit-Size") || "").replace("x", "×");
  const engine = request.getResponseHeader("X-Gankit-Engine");
  const share = Number(request.getResponseHeader("X-Gankit-Engine-Share") || 0);  // of the time in the service
  const facts = `${size} · ${fileSize(blob.size)} · ${seconds.toFixed(1)} s · ${engine}`;
  result.querySelector(".facts").textContent = `${facts}, ${Math.round(100 * share)} % of the time in the engine`;
  const notes = decodeURIComponent(request.getResponseHeader("X-Gankit-Notes") || "");
  result.querySelector(".notes").textContent = notes && `${notes}.`;
  result.querySelector(".notes").hidden = !notes;
  const after = result.querySelector(".after");
  const compare = result.querySelector(".compare");
  after.src = url;
  after.alt = item ? `Result of ${item.file.name}` : "Generated samples";
  if (item) {
    const before = result.querySelector(".before");
    before.alt = `Source ${item.file.name}`;
    before.addEventListener("error", () => compare.classList.add("single"));  // a format that the browser cannot show
    before.src = item.url;
    slide(compare, result.querySelector(".handle"), item.file.name);
  } else {
    compare.classList.add("single");
  }
  const link = result.querySelector("a");
  link.href = url;
  link.download = name;
  link.setAttribute("aria-label", `Download ${name}`);
  const zoom = result.querySelector(".zoom");
  zoom.addEventListener("click", () => zoom.setAttribute("aria-pressed", String(compare.classList.toggle("actual"))));
  $("results").prepend(result);
}

// The before/after slider: by pointer anywhere on the images, and by keyboard on the handle.
function slide(compare, handle, name) {
  let at = 50;
  const move = (value) => {
    at = Math.min(100, Math.max(0, value));
    compare.style.setProperty("--at", `${at}%`);
    handle.setAttribute("aria-valuenow", String(Math.round(at)));
    handle.setAttribute("aria-valuetext", `${Math.round(at)} % of the source shown`);
  };
  handle.setAttribute("aria-label", `Before and after of ${name}`);
  const steps = { ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2, PageDown: -10, PageUp: 10, Home: -100, End: 100 };
  handle.addEventListener("keydown", (event) => {
    if (!(event.key in steps)) return;
    event.preventDefault();
    move(at + steps[event.key]);
  });
  const follow = (event) => {
    const box = compare.getBoundingClientRect();
    move(100 * (event.clientX - box.left) / box.width);
  };
  compare.addEventListener("pointerdown", (event) => {
    if (compare.classList.contains("actual") || event.button !== 0) return;
    event.preventDefault();
    compare.setPointerCapture(event.pointerId);
    handle.focus({ preventScroll: true });
    follow(event);
  });
  compare.addEventListener("pointermove", (event) => {
    if (compare.hasPointerCapture(event.pointerId)) follow(event);
  });
  move(50);
}

document.querySelectorAll("input[name=task]").forEach((input) => input.addEventListener("change", showTask));
$("model").addEventListener("change", showModel);
$("strength").addEventListener("input", showStrength);
$("file").addEventListener("change", () => { addFiles($("file").files); $("file").value = ""; });
$("form").addEventListener("submit", (event) => { event.preventDefault(); run(); });
$("cancel").addEventListener("click", () => { state.stop = true; if (state.request?.abort) state.request.abort(); });
$("token").addEventListener("input", () => { state.models = []; $("run").disabled = false; $("run").textContent = "Use the token"; });
for (const kind of ["dragover", "dragenter"]) {
  document.addEventListener(kind, (event) => { event.preventDefault(); $("drop").classList.add("over"); });
}
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").classList.remove("over"); });
document.addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  if (task() !== "generate") addFiles(event.dataTransfer.files);
});
document.addEventListener("paste", (event) => { if (task() !== "generate") addFiles(event.clipboardData.files); });
loadModels();
