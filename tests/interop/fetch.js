// TensorFlow Serving's REST API from Node's own fetch; prints the answers as JSON.
//   node fetch.js HOST:PORT
const [, , address] = process.argv;

async function ask(path, body) {
  const answer = await fetch(`http://${address}${path}`, body && { method: "POST", body: JSON.stringify(body) });
  return answer.json();
}

(async () => {
  const many = Array.from({ length: 250_000 }, (_, index) => [index]);
  const predict = "/v1/models/half_plus_two:predict";
  const status = await ask("/v1/models/half_plus_two");
  console.log(JSON.stringify({
    predict: (await ask(predict, { instances: [[1], [2]] })).predictions.flat(),
    large: (await ask(predict, { inputs: { x: many } })).outputs.length,
    status: status.model_version_status.map(({ version, state }) => [Number(version), state]),
    unknown: ["NOT_FOUND", (await ask("/v1/models/nope:predict", { instances: [[1]] })).error],
  }));
})();
