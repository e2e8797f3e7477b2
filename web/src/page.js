// What the page shows and does.
import { load } from "./recognizer.js";
import { joined, power, resampler, spectra } from "./sound.js";
const $ = (id) => document.getElementById(id), percent = (x) => `${(100 * x).toFixed(0)} %`;
const say = (text) => ($("status").textContent = text), decibels = (x) => 10 * Math.log10(x + 1e-9);
const canvas = $("spectrogram"), picture = canvas.getContext("2d", { willReadFrequently: true });
picture.globalCompositeOperation = "copy";
/** Power spectra as columns, each so many pixels wide, pushed in from the right. */
function paint(rows, width = 2) {
  const column = picture.createImageData(1, canvas.height);
  for (const row of rows) {
    for (let y = 0; y < canvas.height; y++) {
      const bin = Math.floor(row.length * (1 - (y + 1) / canvas.height));
      const level = (decibels(row[bin]) + 35) / 60;
      column.data.set([255 * level, 230 * level ** 3, 130 - 60 * level, 350 * level], 4 * y);
    }
    picture.drawImage(canvas, -width, 0);
    for (let x = 1; x <= width; x++) picture.putImageData(column, canvas.width - x, 0);
  }
}

function show({ digit, best, confidence, posteriors, span, cleaning, network }, source) {
  $("digit").textContent = digit ?? "no digit";
  const share = percent(confidence), guess = digit === null ? `best guess ${best}, ` : "";
  $("sure").textContent = span ? `${guess}${share} sure` : "no speech found";
  for (const [i, bar] of [...$("posteriors").children].entries()) {
    bar.style.setProperty("--share", posteriors[i]);
    bar.lastElementChild.textContent = percent(posteriors[i]);
  }
  if (digit !== null) $("digits").textContent += `${digit} `;
  say(`${source}: cleaned in ${cleaning.toFixed(1)} ms, recognised in ${network.toFixed(1)} ms`);
}
const { about, rate, decode, recognize, recognizeString, segmentsOf } = await load().catch(
  (error) => { throw (say(`can't start: ${error.message}`), error); });
const fluent = $("fluent"), hear = (sound) => (fluent.checked ? recognizeString : recognize)(sound);
async function open(files) {
  for (const file of files) {
    try {
      const sound = await decode(await file.arrayBuffer()), rows = spectra(sound, rate);
      picture.clearRect(0, 0, canvas.width, canvas.height);
      paint(rows, Math.max(1, Math.floor(canvas.width / rows.length)));
      show(await hear(sound), file.name);
    } catch (error) {
      const known = error.name !== "EncodingError" && error.message;
      say(`${file.name}: ${known || "not sound that this browser can read"}`);
    }
  }
}
/** Listens until stopped; a word is answered after 0.24 s, a string after 0.6. Returns its end. */
async function listen() {
  const raw = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const stream = await navigator.mediaDevices.getUserMedia({ audio: raw });
  const context = new AudioContext(), toRate = resampler(context.sampleRate, rate);
  await context.audioWorklet.addModule("microphone.js");
  const node = new AudioWorkletNode(context, "microphone");
  let blocks = [], heard = new Float32Array(0), undrawn = new Float32Array(0);
  node.port.onmessage = ({ data }) => blocks.push(toRate(data));
  await new Promise((done) => setTimeout(done, 300)); // microphones click when they are opened
  context.createMediaStreamSource(stream).connect(node);
  const timer = setInterval(async () => {
    const fresh = joined(blocks), hop = rate / 100;
    [blocks, heard, undrawn] = [[], joined([heard, fresh]), joined([undrawn, fresh])];
    const columns = Math.floor((undrawn.length - 0.032 * rate) / hop);
    if (columns > 0) paint(spectra(undrawn, rate, columns));
    undrawn = undrawn.slice(Math.max(0, columns) * hop);
    if (fresh.length) $("level").value = decibels(power(fresh));
    const seconds = heard.length / rate, all = segmentsOf(heard), string = fluent.checked && all[0];
    const [pause, limit] = string ? [0.6, 12] : [0.16, 3];
    const [word, next] = string ? [[0, all.at(-1)[1]]] : all;
    if (word && (next || seconds - word[1] >= pause || seconds > limit)) {
      const end = Math.round((next ? next[0] : seconds) * rate), sound = heard.slice(0, end);
      heard = heard.slice(Math.round(word[1] * rate));
      show(await hear(sound), "microphone");
    } else if (seconds > limit) heard = heard.slice(-rate);
  }, 100);
  const close = () => (context.close(), stream.getTracks().forEach((track) => track.stop()));
  return () => void close(clearInterval(timer));
}
let stop = null;
$("listen").addEventListener("click", async () => {
  const refused = (error) => void say(`no microphone: ${error.message}`);
  stop = stop ? stop() : await listen().catch(refused);
  $("listen").setAttribute("aria-pressed", Boolean(stop));
  $("listen").textContent = stop ? "Stop listening" : "Start listening";
});
$("file").addEventListener("change", () => open($("file").files));
$("clear").addEventListener("click", () => ($("digits").textContent = ""));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => (event.preventDefault(), open(event.dataTransfer.files)));
$("listen").disabled = $("file").disabled = fluent.disabled = false;
fluent.parentElement.hidden = !about.strings;
$("model").textContent = about.description;
say(`ready after ${(performance.now() / 1000).toFixed(2)} s`);
navigator.serviceWorker?.register("service-worker.js");
