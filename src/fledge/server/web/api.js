// The public API, as any other client uses it.

/** An answer of the server that is no answer to the question. */
export class ApiError extends Error {
  constructor(status, message, { code = null, context = null, retryAfter = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.context = context; // the most tokens the model reads, where that is the trouble
    this.retryAfter = retryAfter;
  }
}

function headers(key) {
  const all = { "Content-Type": "application/json" };
  if (key) all.Authorization = `Bearer ${key}`;
  return all;
}

async function checked(response) {
  if (response.ok) return response;
  let message = `${response.status} ${response.statusText}`;
  let error = {};
  try {
    error = (await response.json()).error;
    message = error.message;
  } catch {
    // Not in the API's shape: the status has to do.
  }
  throw new ApiError(response.status, message, {
    code: error?.code,
    context: error?.context_tokens,
    retryAfter: response.headers.get("Retry-After"),
  });
}

/** The name of the model that is served. */
export async function modelName(key) {
  const response = await checked(await fetch("v1/models", { headers: headers(key) }));
  return (await response.json()).data[0].id;
}

/** Answer `request`: yields {text, citations}, and last {finish, usage}. */
export async function* chat(request, key, signal) {
  const body = { ...request, stream: true, stream_options: { include_usage: true } };
  const response = await checked(
    await fetch("v1/chat/completions", {
      method: "POST",
      headers: headers(key),
      body: JSON.stringify(body),
      signal,
    }),
  );
  const end = { finish: null, usage: null };
  for await (const data of events(response.body)) {
    if (data === "[DONE]") {
      yield end;
      return;
    }
    const chunk = JSON.parse(data);
    if (chunk.error) throw new ApiError(500, chunk.error.message);
    if (chunk.usage) end.usage = chunk.usage;
    const choice = chunk.choices[0];
    if (choice?.finish_reason) end.finish = choice.finish_reason;
    const { content, citations, supported } = choice?.delta ?? {};
    // A grounded answer's pieces bring new citations; its last event brings them all.
    if (supported !== undefined) yield { text: "", citations, all: true };
    else if (content || citations) yield { text: content ?? "", citations };
  }
  throw new ApiError(0, ""); // The stream ended without [DONE].
}

/** The data of each server-sent event of a stream of bytes. */
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data:")) yield line.slice(5).trim();
    }
  }
}
