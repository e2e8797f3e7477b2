// The way of a sound, Float32Array in [-1, 1]: soxr's, audio_cleaning.py's and audio/'s numbers.
const sum = (values) => values.reduce((total, value) => total + value, 0);
const mean = (values) => sum(values) / values.length;
const between = (low, value, high) => Math.min(high, Math.max(low, value));
const list = (length, item) => Array.from({ length }, (_, i) => item(i));
const floats = (length, item) => new Float64Array(length).map((_, i) => item(i));
const cosine = (turns) => Math.cos(2 * Math.PI * turns);
const hann = (size, period) => floats(size, (i) => 0.5 - 0.5 * cosine(i / period));
const energy = (sound) => sound.reduce((total, value) => total + value * value, 0);
export const power = (sound) => energy(sound) / sound.length;
function percentile(values, percent) {
  const sorted = Float64Array.from(values).sort(), place = ((sorted.length - 1) * percent) / 100;
  const low = Math.floor(place), above = sorted[low + 1] ?? sorted[low];
  return sorted[low] + (above - sorted[low]) * (place - low);
}
export function joined(parts) {
  const whole = new Float32Array(sum(parts.map((part) => part.length)));
  parts.reduce((place, part) => (whole.set(part, place), place + part.length), 0);
  return whole;
}
/** Brings a stream, block by block, to another rate: a windowed sinc with the edges of soxr's. */
export function resampler(from, to) {
  const divisor = (a, b) => (b ? divisor(b, a % b) : a), unit = divisor(from, to);
  const ratio = Math.min(1, to / from), half = Math.ceil(93 / ratio), cutoff = 0.957 * ratio;
  const kernels = list(to / unit, (phase) => floats(2 * half, (tap) => {
    const t = tap - half + 1 - (phase * unit) / to, x = Math.PI * cutoff * t;
    const [one, two, three] = [1, 2, 3].map((k) => cosine((k * t) / half / 2));
    const blackmanHarris = 0.35875 + 0.48829 * one + 0.14128 * two + 0.01168 * three;
    return blackmanHarris * cutoff * (x ? Math.sin(x) / x : 1);
  }));
  let held = new Float32Array(half - 1), time = 0; // of the next sample, in units of 1 / to
  return (block) => {
    const sound = joined([held, block]), output = [], start = () => Math.floor(time / to);
    for (; start() + 2 * half <= sound.length; time += from) {
      const kernel = kernels[(time % to) / unit], place = start();
      let value = 0;
      for (let tap = 0; tap < 2 * half; tap++) value += kernel[tap] * sound[place + tap];
      output.push(value);
    }
    held = sound.slice(start());
    time -= start() * to;
    return Float32Array.from(output);
  };
}
export function resample(sound, from, to) {
  if (from === to) return sound;
  const padded = joined([sound, new Float32Array(Math.ceil(100 * Math.max(1, from / to)))]);
  return resampler(from, to)(padded).slice(0, Math.round((sound.length * to) / from));
}
/** Without mean and rumble: a fourth-order Butterworth high-pass at 70 Hz, forth and back. */
function highPass(sound, rate) {
  const average = mean(sound), last = sound.length - 1, ratio = Math.tan((Math.PI * 70) / rate);
  const padding = Math.min(last, Math.round(rate / 70));
  const values = floats(sound.length + 2 * padding, (i) => {
    const near = between(0, i - padding, last), beyond = i - padding - near; // turned about it
    return beyond ? 2 * sound[near] - sound[near - beyond] - average : sound[near] - average;
  });
  for (const eighths of [1, 3, 1, 3]) { // of pi: the poles of the two sections
    const damping = 2 * Math.sin((eighths * Math.PI) / 8) * ratio;
    const gain = 1 / (1 + damping + ratio * ratio), steady = eighths === 1 ? gain * values[0] : 0;
    const a1 = 2 * (ratio * ratio - 1) * gain, a2 = (1 - damping + ratio * ratio) * gain;
    let s1 = -steady, s2 = steady;
    values.forEach((value, i) => {
      values[i] = gain * value + s1;
      s1 = s2 - 2 * gain * value - a1 * values[i];
      s2 = gain * value - a2 * values[i];
    });
    if (eighths === 3) values.reverse();
  }
  return Float32Array.from(values.subarray(padding, padding + sound.length));
}
const tables = {};
/** Fourier transform (Stockham), in place, of arrays whose length is a power of two. */
function fft(re, im) {
  const n = re.length, half = n / 2;
  tables[n] ??= [(i) => cosine(i / n), () => 0, () => 0].map((item) => floats(n, item));
  const [wave, x, y] = tables[n];
  for (let step = 1; step < n; step *= 2) {
    x.set(re), y.set(im);
    for (let turn = 0; turn < half; turn += step) {
      const c = wave[turn], s = wave[turn + n / 4];
      for (let i = turn, j = i + half, to = i + turn; i < turn + step; i++, j++, to++) {
        const u = x[i] - x[j], v = y[i] - y[j];
        re[to] = x[i] + x[j], im[to] = y[i] + y[j];
        re[to + step] = u * c - v * s, im[to + step] = u * s + v * c;
      }
    }
  }
  return [re, im];
}
/** Transforms [re, im] of windowed sound, `hop` samples apart; zeros lie around it. */
function frames(sound, window, hop, start, count) {
  const padded = new Float32Array(window.length + (count - 1) * hop);
  padded.set(sound.subarray(Math.max(0, start), start + padded.length), Math.max(0, -start));
  return list(count, (number) => {
    const place = number * hop, re = window.map((weight, i) => weight * padded[place + i]);
    return fft(re, new Float64Array(re.length));
  });
}
/** Power spectra 10 ms apart; of a whole recording, or of so many frames from its start on. */
export function spectra(sound, rate, count) {
  const hop = rate / 100, size = 0.032 * rate, window = hann(size, size - 1);
  const start = count ? 0 : -((size - hop) >> 1), all = Math.max(1, Math.ceil(sound.length / hop));
  return frames(sound, window, hop, start, count || all).map(([re, im]) =>
    floats(size / 2 + 1, (i) => re[i] ** 2 + im[i] ** 2));
}
/** dB by which each 10 ms stands out of the noise of its bands. */
function activity(sound, rate) {
  const edges = [80, 250, 450, 700, 1000, 1400, 1900, 2500, 3200, 4000, 5500, 8000]; // Hz
  const bins = edges.filter((edge) => edge <= rate / 2).map((edge) => Math.ceil(edge * 0.032));
  const all = spectra(sound, rate).map((row) =>
    bins.slice(1).map((end, band) => mean(row.subarray(bins[band], end))));
  const near = (i) => all[between(0, i, all.length - 1)];
  const smooth = all.length < 3 ? all : all.map((row, i) =>
    row.map((value, band) => (near(i - 1)[band] + value + near(i + 1)[band]) / 3));
  const least = 1e-6 * Math.max(...smooth.map((row) => Math.max(...row))) + 1e-20;
  const floor = smooth[0].map((_, band) =>
    Math.max(least, percentile(smooth.map((row) => row[band]), 15)));
  return smooth.map((row) => 10 * Math.log10(mean(row.map((x, band) => x / floor[band])) + 1e-12));
}
/** What is found in each 20 ms. */
const frames20ms = (sound, rate, found) => list(Math.floor((50 * sound.length) / rate), (i) =>
  found(sound.subarray((i * rate) / 50, ((i + 1) * rate) / 50)));
/** Joins [start, end] that lie at most `gap` apart. */
const merged = (spans, gap) => spans.reduce((all, [start, end]) => {
  const [first, last] = all.at(-1) ?? [0, -Infinity];
  return start - last > gap ? [...all, [start, end]] : all.with(-1, [first, Math.max(last, end)]);
}, []);
/** [first, past the last] of each run of levels above a limit. */
const runs = (levels, limit) =>
  merged(levels.flatMap((level, i) => (level > limit ? [[i, i + 1]] : [])), 0);
/** Start and end, s, of each stretch of speech: energy, duration and WebRTC's detector agree. */
function findSpeech(sound, rate, isVoice) {
  const seconds = sound.length / rate, powers = frames20ms(sound, rate, power);
  const tenth = powers.sort((a, b) => b - a).slice(0, Math.max(1, powers.length / 10));
  const loudest = Math.sqrt(mean(tenth));
  if (!(20 * Math.log10(loudest) >= -75)) return [];
  const copy = joined([sound, new Float32Array(rate / 50 - 1)]).map((x) => (0.1 * x) / loudest);
  const voiced = frames20ms(copy, rate, isVoice), contrast = activity(sound, rate);
  const top = Math.max(...contrast);
  const active = merged(runs(contrast, Math.max(3.2, top - 45)), 20);
  const stretches = active.filter(([start, end]) => {
    const part = contrast.slice(start, end), core = Math.max(3.2, Math.max(...part) - 20);
    const lasts = runs(part, core).some(([from, to]) => to - from >= 6); // a click does not
    return lasts && sum(voiced.slice(start >> 1, (end + 1) >> 1)) >= 3;
  });
  if (!stretches.length || seconds <= 0.7) return stretches.length ? [[0, seconds]] : [];
  const edge = 0.12 * between(0, (40 - top) / 30, 1); // noise hides the soft edges of words
  const padded = stretches.map(([a, b]) => [a / 100 - edge - 0.06, b / 100 + edge + 0.08]);
  return merged(padded, 0).map(([a, b]) => [Math.max(0, a), Math.min(seconds, b)]);
}
/** Turns steady noise down by 60 %: spectral gating, the noise learned beside the speech. */
function spectralGate(sound, noise, rate) {
  const size = 0.032 * rate, hop = size / 4, padding = 8.5 * size, window = hann(size, size);
  const count = (x, before) => Math.floor((x.length + 2 * before - size) / hop) + 1;
  const transform = (x, before) => frames(x, window, hop, -before, count(x, before));
  const levels = (all) => list(size / 2 + 1, (i) => {
    const sizes = all.map(([re, im]) => (Math.hypot(re[i], im[i]) * 2) / size);
    const row = sizes.map((amplitude) => 20 * Math.log10(amplitude + 2 ** -52));
    const floor = row.reduce((top, level) => Math.max(top, level), -400) - 80;
    return row.map((level) => Math.max(level, floor));
  });
  const thresholds = levels(transform(noise, size / 2)).map((row) => {
    const middle = mean(row);
    return middle + 1.5 * Math.sqrt(mean(row.map((level) => (level - middle) ** 2)));
  });
  const spectrum = transform(sound, padding);
  const mask = levels(spectrum).map((row, i) =>
    smoothed(row.map((level) => (level > thresholds[i] ? 1 : 0.4)), 6));
  const output = new Float64Array(sound.length + 2 * padding + size);
  spectrum.forEach(([re, im], number) => {
    const gains = smoothed(mask.map((row) => row[number]), 8);
    const gain = (i) => gains[Math.min(i, size - i)];
    const [back] = fft(re.map((x, i) => x * gain(i)), im.map((y, i) => -y * gain(i))); // inverse
    back.forEach((value, i) => (output[number * hop + i] += (value / size) * window[i]));
  });
  return sound.map((_, i) => output[padding + i] / 1.5); // four squared windows add to 1.5
}
/** Averages over triangles that reach so far; zeros lie around. */
const smoothed = (values, reach) => values.map((_, i) => {
  let total = 0;
  for (let k = -reach; k <= reach; k++) total += (values[i + k] ?? 0) * (reach + 1 - Math.abs(k));
  return total / (reach + 1) ** 2;
});
/** The word to recognise and where it was; without speech, no span. */
export function clean(sound, rate, isVoice) {
  const passed = highPass(sound, rate), segments = findSpeech(passed, rate, isVoice);
  if (!segments.length) return { speech: new Float32Array(0), segments };
  const cut = (x, [start, end]) => x.slice(Math.round(start * rate), Math.round(end * rate));
  const edges = [0, ...segments.flat(), sound.length / rate];
  const outside = joined(list(segments.length + 1, (i) => cut(passed, edges.slice(2 * i))));
  const known = outside.length >= rate / 10, speech = joined(segments.map((s) => cut(passed, s)));
  const noise = known ? power(outside) : percentile(frames20ms(passed, rate, power), 10);
  const noisy = Math.max(power(speech) - noise, 1e-12) < 10 * Math.max(noise, 1e-12); // 10 dB
  const gated = known && noisy ? spectralGate(passed, outside, rate) : passed;
  const whole = [segments[0][0], segments.at(-1)[1]], loud = (one) => energy(cut(gated, one));
  const louder = (one, other) => (loud(other) > loud(one) ? other : one);
  const span = whole[1] - whole[0] <= 1.2 ? whole : segments.reduce(louder);
  return { speech: cut(gated, span), span, segments };
}
