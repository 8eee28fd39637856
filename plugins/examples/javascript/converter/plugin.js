// A converter: one sample per line of a text file, `question<TAB>answer`. Put your format in its place.

import { checkpoint, report } from "graft:plugin/host@0.1.0";

const CHUNK = 64 * 1024;
const BATCH = 64;
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export const converter = {
  describe() {
    return {
      formats: [
        {
          id: "question-tab-answer",
          title: "Questions and answers, one pair a line",
          extensions: ["tsv", "txt"],
        },
      ],
      optionsSchema: JSON.stringify({ type: "object", properties: {}, additionalProperties: false }),
    };
  },

  detect(head, _name) {
    return head.includes(9) ? 20 : 0;
  },

  convert(input, output, options) {
    // Knows no option; one that is given is an error rather than without effect.
    for (const name of Object.keys(JSON.parse(options))) {
      throw { tag: "invalid-options", val: `/${name}: there is no such option` };
    }
    const source = input.name();
    const summary = { records: 0n, samples: 0n, skipped: 0n };
    let batch = [];
    for (const { bytes, offset, number } of lines(input)) {
      summary.records += 1n;
      const at = { source, byteOffset: offset, line: number, recordIndex: number - 1n };
      const skip = (code, message) => {
        summary.skipped += 1n;
        report({ severity: "warning", code, message, at });
      };
      const text = decode(bytes);
      if (text === undefined) {
        skip("not-utf8", "the line is not UTF-8");
        continue;
      }
      const tab = text.indexOf("\t");
      if (tab < 0) {
        skip("no-tab", "the line has no tab between question and answer");
        continue;
      }
      batch.push({
        id: String(number),
        images: [],
        turns: [says("user", text.slice(0, tab)), says("assistant", text.slice(tab + 1))],
        origin: at,
        extra: [],
      });
      summary.samples += 1n;
      if (batch.length === BATCH) {
        output.emit(batch);
        batch = [];
      }
    }
    output.emit(batch);
    return summary;
  },
};

function says(role, text) {
  return { role, content: [{ tag: "text", val: text }] };
}

function decode(bytes) {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

/** The lines of a source, one at a time, with the offset of their first byte. */
function* lines(input) {
  const size = input.size();
  let rest = new Uint8Array();
  let offset = 0n;
  let number = 0n;
  for (;;) {
    checkpoint(offset, size); // throws when the user stops; graft gets what is thrown
    const chunk = input.read(CHUNK);
    const bytes = new Uint8Array(rest.length + chunk.length);
    bytes.set(rest);
    bytes.set(chunk, rest.length);
    let start = 0;
    for (let end; (end = bytes.indexOf(10, start)) >= 0; start = end + 1) {
      number += 1n;
      const ended = end > start && bytes[end - 1] === 13 ? end - 1 : end;
      yield { bytes: bytes.subarray(start, ended), offset, number };
      offset += BigInt(end + 1 - start);
    }
    rest = bytes.subarray(start);
    if (chunk.length === 0) {
      if (rest.length > 0) yield { bytes: rest, offset, number: number + 1n };
      return;
    }
  }
}
