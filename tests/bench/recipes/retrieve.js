// Retrieve under load with k6: an open loop of so many questions a second, each of a user of its own, found by reflection.
//
//     k6 run -e RATE=5 -e DURATION=20s tests/bench/recipes/retrieve.js
//
// LIGHTMEM_TARGET and LIGHTMEM_API_KEY say where and as whom. Ends with another code than 0 when a threshold is missed.
import exec from 'k6/execution';
import grpc from 'k6/net/grpc';
import { Counter, Trend } from 'k6/metrics';

const target = __ENV.LIGHTMEM_TARGET || '127.0.0.1:7420';
const params = { metadata: { authorization: `Bearer ${__ENV.LIGHTMEM_API_KEY}` } };
const users = 8;

const took = new Trend('retrieve_duration', true); // to the last part of the answer; k6's own iteration_duration has the setup too
const answered = new Counter('retrieve_answered');
const failed = new Counter('retrieve_failed'); // tagged with the status

export const options = {
  scenarios: {
    ask: {
      executor: 'constant-arrival-rate', // new calls come at their time, whatever became of the ones before
      rate: Number(__ENV.RATE || 5),
      timeUnit: '1s',
      duration: __ENV.DURATION || '20s',
      preAllocatedVUs: 50,
      maxVUs: 200,
    },
  },
  thresholds: {
    retrieve_failed: ['count==0'],
    retrieve_answered: ['count>0'],
    dropped_iterations: ['count==0'], // k6 was full itself: what it measured would be too good
    retrieve_duration: [`p(95)<${__ENV.P95_MS || 1000}`],
  },
  summaryTrendStats: ['med', 'p(95)', 'p(99)', 'max', 'count'],
};

const client = new grpc.Client();

// Gives each user something to remember. A Write stream of one request; its end is the acknowledgement.
export async function setup() {
  client.connect(target, { plaintext: true, reflect: true });
  for (let user = 0; user < users; user++) {
    await new Promise((resolve, reject) => {
      const stream = new grpc.Stream(client, 'lightmem.v1.MemoryService/Write', params);
      stream.on('error', (error) => reject(new Error(`Write: ${error.message}`)));
      stream.on('end', resolve);
      const turns = Array.from({ length: 50 }, (_, n) => ({ text: `On day ${n} I moved to house ${n * 7} of street ${user}.` }));
      stream.write({ scope: { userId: `k6-${user}` }, turns });
      stream.end();
    });
  }
  client.close();
}

let isConnected = false;

export default function () {
  if (!isConnected) {
    client.connect(target, { plaintext: true, reflect: true });
    isConnected = true;
  }
  const number = exec.scenario.iterationInTest;
  const began = Date.now();
  return new Promise((resolve) => {
    const stream = new grpc.Stream(client, 'lightmem.v1.MemoryService/Retrieve', params);
    let error = null;
    stream.on('error', (e) => {
      error = e;
      failed.add(1, { code: String(e.code) });
      resolve();
    });
    stream.on('end', () => {
      if (error === null) {
        took.add(Date.now() - began);
        answered.add(1);
      }
      resolve();
    });
    stream.write({ scope: { userId: `k6-${number % users}` }, query: `Where did I move on day ${number % 50}?` });
    stream.end();
  });
}
