// The peer of the uploads: @tus/server before @tus/s3-store, both as they come. Ends when its starter does.
import { createServer } from "node:http";

import { S3Store } from "@tus/s3-store";
import { Server } from "@tus/server";

const { PORT, BUCKET, AWS_DEFAULT_REGION, AWS_ENDPOINT_URL } = process.env;
const s3ClientConfig = { bucket: BUCKET, region: AWS_DEFAULT_REGION, endpoint: AWS_ENDPOINT_URL, forcePathStyle: true };
const tus = new Server({ path: "/files", datastore: new S3Store({ s3ClientConfig }) });

process.stdin.resume().on("end", () => process.exit());
createServer((request, response) => (request.url === "/health" ? response.end() : tus.handle(request, response))).listen(
  Number(PORT),
  "127.0.0.1",
);
