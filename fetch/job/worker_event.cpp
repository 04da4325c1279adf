// A worker may have been taken over by a peer. Each field is therefore checked for its type and range here,
// in one place, and the rest of the parent uses only the resulting values.
//
// All functions are pure. A line that is not an event is Error{malformed}, and the supervisor takes that for
// a crash.

#include "fetch/job/worker_event.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/text.h"
#include "fetch/job/worker_pipe.h"
#include "format/json.h"

namespace sluice::fetch {
namespace {

using base::ErrorKind;
using format::Json;

constexpr std::string_view kSubject = "worker event";
constexpr std::uint64_t kBytesMax = std::uint64_t{1} << 56;  // so that sums of a few numbers cannot overflow
// Far above what a swarm can have; the limit keeps a made-up number from overflowing a conversion.
constexpr std::uint64_t kPeersMax = 100'000'000;
constexpr double kAvailabilityMax = 1e6;

// Texts go to the user's terminal, so control characters are replaced. They may come from a tracker or a
// peer, also if the worker is honest.
std::string parse_text(const Json& event, std::string_view key) {
  const std::string& text = event.at(key, kSubject).as_string(kSubject);
  if (text.size() > kEventTextMax) base::throw_malformed(kSubject, "'" + std::string(key) + "' is too long");
  return base::to_printable(text);
}

std::uint64_t parse_number(const Json& value, std::string_view key, std::uint64_t max) {
  const std::uint64_t number = value.as_uint(kSubject);
  if (number > max) base::throw_malformed(kSubject, "'" + std::string(key) + "' is too large");
  return number;
}

std::uint64_t parse_bytes(const Json& event, std::string_view key) {
  return parse_number(event.at(key, kSubject), key, kBytesMax);
}

unsigned parse_peers(const Json& event, std::string_view key) {
  return static_cast<unsigned>(parse_number(event.at(key, kSubject), key, kPeersMax));
}

std::optional<std::uint64_t> find_peers(const Json& event, std::string_view key) {
  const Json* value = event.find(key);
  if (value == nullptr) return std::nullopt;
  return parse_number(*value, key, kPeersMax);
}

std::string_view parse_phase(const Json& event) {
  // FetchStatus::phase is a view, so the result refers to one of these literals and not to the event.
  static constexpr std::array<std::string_view, 4> kPhases{"metadata", "checking", "fetching", "seeding"};
  const auto phase = std::ranges::find(kPhases, event.at("phase", kSubject).as_string(kSubject));
  if (phase == kPhases.end()) base::throw_malformed(kSubject, "unknown phase");
  return *phase;
}

std::optional<double> find_availability(const Json& event) {
  const Json* value = event.find("availability");
  if (value == nullptr) return std::nullopt;
  const double availability = value->as_double(kSubject);
  if (!(availability >= 0 && availability <= kAvailabilityMax))  // written so that NaN fails, too
    base::throw_malformed(kSubject, "'availability' is out of range");
  return availability;
}

std::optional<std::uint64_t> find_bytes(const Json& event, std::string_view key) {
  const Json* value = event.find(key);
  if (value == nullptr) return std::nullopt;
  return parse_number(*value, key, kBytesMax);
}

TransferCounts parse_counts(const Json& event) {
  return {parse_bytes(event, "downloaded"), parse_bytes(event, "rehashed"),
          find_bytes(event, "adopted").value_or(0), find_bytes(event, "believed"),
          find_bytes(event, "believed_pieces")};
}

StatusEvent parse_status(const Json& event) {
  StatusEvent out;
  FetchStatus& status = out.status;
  status.phase = parse_phase(event);
  status.total_bytes = parse_bytes(event, "total");
  // Clamped and not refused: the two numbers are measured one after the other.
  status.done_bytes = std::min(parse_bytes(event, "done"), status.total_bytes);
  status.rate_bytes_per_s = parse_bytes(event, "rate");
  status.peers = parse_peers(event, "peers");
  status.seeds = parse_peers(event, "seeds");
  status.availability = find_availability(event);
  out.counts = parse_counts(event);
  out.proven_bytes = parse_bytes(event, "proven");
  out.unproven_bytes = parse_bytes(event, "unproven");
  out.complete = find_peers(event, "complete");
  out.incomplete = find_peers(event, "incomplete");
  return out;
}

/// Maps other kinds to io: a worker must not make the parent report a bad signature or a usage error.
ErrorKind parse_error_kind(const std::string& name) {
  for (const ErrorKind kind :
       {ErrorKind::incomplete, ErrorKind::no_space, ErrorKind::network, ErrorKind::malformed, ErrorKind::io})
    if (base::to_string(kind) == name) return kind;
  return ErrorKind::io;
}

}  // namespace

WorkerEvent parse_event(std::string_view line) {
  // Before the line is parsed: a parser takes a multiple of the memory of its input.
  if (line.size() > kEventBytesMax) base::throw_malformed(kSubject, "is too long");
  const Json event = format::parse_json(line, kSubject);
  const std::string& name = event.at("event", kSubject).as_string(kSubject);
  if (name == "status") return parse_status(event);
  if (name == "warning") return WarningEvent{parse_text(event, "message")};
  if (name == "tracker") return TrackerEvent{parse_text(event, "url"), parse_text(event, "message")};
  if (name == "error")
    return ErrorEvent{parse_error_kind(event.at("kind", kSubject).as_string(kSubject)),
                      parse_text(event, "message")};
  if (name == "done" || name == "stopped") return EndEvent{name == "done", parse_counts(event)};
  base::throw_malformed(kSubject, "unknown event");
}

}  // namespace sluice::fetch
