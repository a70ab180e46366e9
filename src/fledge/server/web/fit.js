// Conversations longer than the model's context: the oldest turns are left out.

const ANSWER_ROOM = 48; // tokens that a conversation leaves for its answer, as in fledge chat

/**
 * The answer to as much of the conversation `spoken` as fits; the last question always stays.
 *
 * `send(messages, room)` asks the server, which refuses what leaves fewer than `room` tokens for
 * the answer; when the last question alone leaves fewer, it is asked all the same.  `left` says
 * how many `turns` to leave out at first, and then how many were, and the model's `context`.
 */
export async function* whatFits(spoken, send, left) {
  const spare = questions(spoken).length - 1;
  let room = ANSWER_ROOM;
  left.turns = Math.min(left.turns, spare);
  for (;;) {
    try {
      yield* send(since(spoken, left.turns), room);
      return;
    } catch (error) {
      if (error.code !== "context_length_exceeded") throw error;
      if (left.turns < spare) {
        left.turns += 1;
        left.context = error.context;
      } else if (room) {
        room = 0;
      } else {
        throw error;
      }
    }
  }
}

function questions(spoken) {
  return spoken.filter((message) => message.role === "user");
}

function since(spoken, turns) {
  return turns ? spoken.slice(spoken.indexOf(questions(spoken)[turns])) : spoken;
}
