// A round of labeling by a client that is generated from the protos: what a person of another language would write.
import { promisify } from "node:util";

import { credentials, Metadata, type ServiceError } from "@grpc/grpc-js";

import {
  AnnotateRequest,
  type AnnotateResponse,
  AnnotationsClient,
  AnnotationVerb,
  ListAnnotationsRequest,
  type ListAnnotationsResponse,
  ReviewSamplesRequest,
  type ReviewSamplesResponse,
  UndoLastActionRequest,
  type UndoLastActionResponse,
} from "./generated/assay/v1/annotations";
import { ChangesClient, WatchPoolRequest, type WatchPoolResponse } from "./generated/assay/v1/changes";
import { LabelingClient, NextBatchRequest, type NextBatchResponse } from "./generated/assay/v1/labeling";
import { Model, ModelsClient, TrainHeadMetadata, TrainHeadRequest } from "./generated/assay/v1/models";
import {
  AddSamplesRequest,
  type AddSamplesResponse,
  CreatePoolRequest,
  GetSampleRequest,
  Metric,
  type Pool,
  PoolsClient,
} from "./generated/assay/v1/pools";
import { ServerClient, type ServerInfo } from "./generated/assay/v1/server";
import { DType } from "./generated/assay/v1/types";
import { type Operation, OperationsClient, WaitOperationRequest } from "./generated/google/longrunning/operations";

const [target] = process.argv.slice(2);
const plain = credentials.createInsecure();
const parent = "pools/typed";
const COUNT = 60;

function call<Request, Reply>(
  method: (request: Request, done: (error: ServiceError | null, reply: Reply) => void) => unknown,
  request: Request,
): Promise<Reply> {
  return promisify(method)(request) as Promise<Reply>;
}

// Two clusters in two dimensions: even samples lie right, odd ones left.
function embeddings(): Buffer {
  const data = Buffer.alloc(COUNT * 2 * 4);
  for (let row = 0; row < COUNT; row++) {
    data.writeFloatLE((row % 2 === 0 ? 1 : -1) + row / 1000, row * 8);
    data.writeFloatLE(row / 100, row * 8 + 4);
  }
  return data;
}

// What changed first in the pool after an epoch.
async function firstChange(epoch: bigint): Promise<WatchPoolResponse> {
  const feed = new ChangesClient(target, plain).watchPool(
    WatchPoolRequest.fromPartial({ pool: parent, start: { $case: "sinceEpoch", value: epoch } }),
  );
  for await (const message of feed) {
    if ((message as WatchPoolResponse).changes.length === 0) {
      continue; // a heartbeat
    }
    feed.on("error", () => undefined); // it says that it was cancelled
    feed.cancel();
    return message as WatchPoolResponse;
  }
  throw new Error("the feed ended");
}

async function main(): Promise<void> {
  const pools = new PoolsClient(target, plain);
  const labeling = new LabelingClient(target, plain);
  const annotations = new AnnotationsClient(target, plain);
  const models = new ModelsClient(target, plain);
  const operations = new OperationsClient(target, plain);
  const server = new ServerClient(target, plain);

  const info: ServerInfo = await call(server.getServerInfo.bind(server), {});
  const pool: Pool = await call(pools.createPool.bind(pools), CreatePoolRequest.fromPartial({
    poolId: "typed",
    pool: {
      metric: Metric.METRIC_L2,
      task: { kind: { $case: "classification", value: { classes: [{ name: "right" }, { name: "left" }] } } },
    },
    requestId: "create",
  }));
  const ids = Array.from({ length: COUNT }, (_, row) => `s/${row}`);
  const added: AddSamplesResponse = await call(pools.addSamples.bind(pools), AddSamplesRequest.fromPartial({
    parent,
    batch: { ids, embeddings: { dtype: DType.DTYPE_FLOAT32, rows: BigInt(COUNT), cols: 2n, data: embeddings() } },
    requestId: "add",
  }));
  const batch: NextBatchResponse = await call(labeling.nextBatch.bind(labeling), NextBatchRequest.fromPartial({
    parent,
    worker: "ann",
    size: 20,
  }));
  const said = batch.picks.map((pick) => ({
    sampleId: pick.sample!.id,
    value: {
      kind: { $case: "className" as const, value: Number(pick.sample!.id.slice(2)) % 2 === 0 ? "right" : "left" },
    },
  }));
  const stored: AnnotateResponse = await call(annotations.annotate.bind(annotations), AnnotateRequest.fromPartial({
    parent,
    worker: "ann",
    annotations: said,
    lease: batch.lease!.name,
    fencingToken: batch.lease!.fencingToken,
  }));
  const first = said[0].sampleId;
  const decided: ReviewSamplesResponse = await call(
    annotations.reviewSamples.bind(annotations),
    ReviewSamplesRequest.fromPartial({
      parent,
      worker: "rita",
      reviews: [{ sampleId: first, decision: { $case: "value", value: { kind: { $case: "className", value: "left" } } } }],
    }),
  );
  const undone: UndoLastActionResponse = await call(
    annotations.undoLastAction.bind(annotations),
    UndoLastActionRequest.fromPartial({ parent, worker: "rita" }),
  );
  const history: ListAnnotationsResponse = await call(
    annotations.listAnnotations.bind(annotations),
    ListAnnotationsRequest.fromPartial({ parent, sampleId: first }),
  );
  const watched: WatchPoolResponse = await firstChange(added.epoch);
  const started: Operation = await call(models.trainHead.bind(models), TrainHeadRequest.fromPartial({ parent, activate: true }));
  const ended: Operation = await call(operations.waitOperation.bind(operations), WaitOperationRequest.fromPartial({
    name: started.name,
    timeout: { seconds: 60n, nanos: 0 },
  }));
  const metadata = TrainHeadMetadata.decode(ended.metadata!.value);
  const head = ended.result?.$case === "response" ? Model.decode(ended.result.value.value) : undefined;
  const refused = await call(pools.getSample.bind(pools), GetSampleRequest.fromPartial({ name: `${parent}/samples/none` })).then(
    () => undefined,
    (error: ServiceError) => error,
  );
  console.log(
    JSON.stringify({
      version: info.version,
      classes: pool.task?.kind?.$case === "classification" ? pool.task.kind.value.classes.map((each) => each.name) : [],
      added: Number(added.added),
      names: batch.picks.map((pick) => pick.sample!.name),
      stored: Number(stored.stored),
      decided: Number(decided.decided),
      undone: undone.sampleIds[0] === first,
      history: history.annotations.map((each) => AnnotationVerb[each.verb]),
      watched: watched.changes.map((each) => each.kind?.$case),
      operation: started.name,
      pool: metadata.pool,
      head: head?.name,
      labels: head?.details?.$case === "head" ? Number(head.details.value.labels) : -1,
      refused: [refused?.code, refused?.metadata instanceof Metadata],
    }),
  );
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
