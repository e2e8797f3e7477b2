// From a file or sound to an answer: decoding, cleaning, the ONNX model, the decision.
import * as ort from "./ort.wasm.bundle.min.mjs";
import fvad from "./fvad.js";
import { clean, resample } from "./sound.js";

/** A file of this page; unpacked, where the server has not done so. */
async function fetched(name) {
  const response = await fetch(name), { ok, status, body, headers } = response;
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

  const word = new Float32Array(rate).map((_, i) => Math.sin(i / 9) * Math.sin(i / 5000) ** 8);
  for (let i = 0; i < 3; i++) await recognize(word, () => clean(word, rate, () => 1)); // compiles
  return { about, rate, decode, recognize, segmentsOf: (sound) => cleaned(sound).segments };
}
