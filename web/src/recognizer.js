// From a file or sound to an answer: decoding, cleaning, the ONNX model, the decision.
import * as ort from "./ort.wasm.bundle.min.mjs";
import fvad from "./fvad.js";
import { clean, resample } from "./sound.js";
/** A file of this page, kept or fetched; unpacked, where the server has not done so. */
async function fetched(name) {
  const response = (await self.caches?.match(name)) ?? (await fetch(name));
  const { ok, status, body, headers } = response;
  if (!ok) throw new Error(`${name}: status ${status}`);
  if (!name.endsWith(".gz") || headers.get("content-encoding")) return response;
  return new Response(body.pipeThrough(new DecompressionStream("gzip")));
}
/** The rate that a WAV or FLAC file has: decoded at that rate, it is not resampled. */
function rateOf(bytes) {
  const view = new DataView(bytes), kind = bytes.byteLength > 44 ? view.getUint32(0) : 0;
  const flac = kind === 0x664c6143, wave = kind === 0x52494646; // "fLaC", "RIFF"
  const rate = flac ? view.getUint32(18) >>> 12 : wave ? view.getUint32(24, true) : 0;
  return rate >= 3000 && rate <= 192000 ? rate : 48000;
}
/** What recognises, once the model is there. */
export async function load() {
  const bytes = async (name) => (await fetched(name)).arrayBuffer();
  const files = [fetched("model.json"), fvad(), bytes("runtime.wasm.gz"), bytes("model.onnx.gz")];
  const [json, vad, wasmBinary, model] = await Promise.all(files), about = await json.json();
  Object.assign(ort.env.wasm, { wasmBinary, numThreads: 1 });
  const session = await ort.InferenceSession.create(model), rate = about.sample_rate;
  const detector = vad._fvad_new(), place = vad._malloc(rate / 25); // WebRTC's, 20 ms for it
  function isVoice(frame) {
    vad.HEAP16.set(frame.map((x) => 32767 * Math.min(1, Math.max(-1, x))), place >> 1);
    return vad._fvad_process(detector, place, frame.length);
  }
  /** Cleans sound; the detector, which adapts to what it hears, begins afresh. */
  function cleaned(sound) {
    vad._fvad_reset(detector);
    vad._fvad_set_mode(detector, 2), vad._fvad_set_sample_rate(detector, rate);
    return clean(sound, rate, isVoice);
  }
  /** The sound of a file, at the model's rate; channels are averaged. */
  async function decode(file) {
    const own = rateOf(file);
    const buffer = await new OfflineAudioContext(1, 1, own).decodeAudioData(file);
    if (buffer.duration > about.max_seconds) throw new Error(`longer than ${about.max_seconds} s`);
    const mixed = new Float32Array(buffer.length), channels = buffer.numberOfChannels;
    for (let channel = 0; channel < channels; channel++)
      buffer.getChannelData(channel).forEach((value, i) => (mixed[i] += value / channels));
    return resample(mixed, own, rate);
  }
  /** The answer to sound at the model's rate; its digit is null for "no digit". */
  async function recognize(sound, cleaning = cleaned) {
    const begun = performance.now(), { speech, span } = cleaning(sound);
    const half = performance.now(), samples = new ort.Tensor("float32", speech, [1, speech.length]);
    const lengths = new ort.Tensor("int64", [BigInt(speech.length)], [1]);
    const inputs = { samples, lengths, oh: new ort.Tensor("bool", [false], []) };
    const output = span ? await session.run(inputs, ["posteriors"]) : null;
    const posteriors = output?.posteriors.data ?? about.labels.map((_, i) => Number(i === 10));
    const confidence = Math.max(...posteriors.slice(0, 10)), best = posteriors.indexOf(confidence);
    const digit = confidence >= Math.max(about.threshold, posteriors[10]) ? best : null;
    const times = { cleaning: half - begun, network: performance.now() - half };
    return { digit, best, confidence, posteriors, span, ...times };
  }
  let strings; // the network that hears whole strings, fetched when it is first asked
  /** The same for the digits of fluent speech: the best path through 7.5 s at most at once. */
  async function recognizeString(sound) {
    strings ??= await ort.InferenceSession.create(await bytes("strings.onnx.gz"));
    const begun = performance.now(), { segments } = cleaned(sound), pieces = [];
    let half = performance.now(), digits = "", sure = 1;
    for (const [start, end] of segments)
      if (end - pieces.at(-1)?.[0] < 7.5) pieces.at(-1)[1] = end;
      else for (let at = start; at < end; at += 7.5) pieces.push([at, Math.min(end, at + 7.5)]);
    for (const [start, end] of pieces) {
      const speech = new Float32Array(640 * Math.ceil(25 * (end - start) + 12)); // whole frames
      speech.set(sound.subarray(start * rate, end * rate), 3200); // between quiet
      const samples = new ort.Tensor("float32", speech, [1, speech.length]);
      const { data } = (await strings.run({ samples })).posteriors;
      for (let last = -1, i = 0; i < data.length; i += 13) {
        const row = data.subarray(i, i + 13), most = Math.max(...row), best = row.indexOf(most);
        const said = "0123456789 0 "[best].trim(); // in a number "oh" is zero
        if (said && best !== last) (digits += said), (sure = Math.min(sure, most));
        last = best;
      }
    }
    const times = { cleaning: half - begun, network: performance.now() - half };
    const found = { digit: digits || null, best: "none", confidence: digits ? sure : 0 };
    return { ...found, posteriors: about.labels.map(() => 0), span: segments[0], ...times };
  }
  const word = new Float32Array(rate).map((_, i) => Math.sin(i / 9) * Math.sin(i / 5000) ** 8);
  for (let i = 0; i < 3; i++) await recognize(word, () => clean(word, rate, () => 1)); // compiles
  const segmentsOf = (sound) => cleaned(sound).segments;
  return { about, rate, decode, recognize, recognizeString, segmentsOf };
}
