// TensorFlow Serving's gRPC API from Node; prints the answers as JSON.
//   node grpc_js.js HOST:PORT DESCRIPTORS
const { readFileSync } = require("node:fs");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [, , address, descriptors] = process.argv;
const options = { keepCase: true, longs: Number, enums: String };
const loaded = loader.loadFileDescriptorSetFromBuffer(readFileSync(descriptors), options);
const { PredictionService, ModelService } = grpc.loadPackageDefinition(loaded).tensorflow.serving;
const channel = grpc.credentials.createInsecure();
const prediction = new PredictionService(address, channel);
const models = new ModelService(address, channel);

const call = (client, method, request) =>
  new Promise((resolve) => {
    const deadline = new Date(Date.now() + 60_000);
    client[method](request, { deadline }, (error, answer) => resolve(error ? [grpc.status[error.code], error.details] : answer));
  });

// Of a descriptor set, proto-loader makes maps lists of their entries.
function predict(name, values) {
  const content = Buffer.from(new Float32Array(values).buffer);
  const tensor = { dtype: "DT_FLOAT", tensor_shape: { dim: [{ size: values.length }, { size: 1 }] }, tensor_content: content };
  return call(prediction, "Predict", { model_spec: { name }, inputs: [{ key: "x", value: tensor }] });
}

(async () => {
  const many = Array.from({ length: 250_000 }, (_, index) => index);
  const large = await predict("half_plus_two", many);
  const status = await call(models, "GetModelStatus", { model_spec: { name: "half_plus_two" } });
  console.log(JSON.stringify({
    predict: (await predict("half_plus_two", [1, 2])).outputs[0].value.float_val,
    large: large.outputs ? large.outputs[0].value.float_val.length : large,
    status: status.model_version_status.map(({ version, state }) => [version, state]),
    unknown: await predict("nope", [1]),
  }));
  prediction.close();
  models.close();
})();
