// Writes and parses jobs, and moves lines over the worker's stdin and stdout. parse_job() checks types and
// ranges of every field, so that a worker started by hand fails with a message; to_json() and parse_job() are
// inverses. A worker and its parent are always the same program, so the format needs no version.
//
// send() may be called by any thread. read_line() and stop_requested() share `input_` without a mutex and
// belong to one thread at a time.

#include "fetch/job/worker_pipe.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <limits>
#include <utility>

#include "base/text.h"

namespace sluice::fetch {
namespace {

using format::Json;

constexpr std::size_t kLineBytesMax = 64u << 20;  // a job can name 262,144 unwanted files
constexpr std::string_view kSubject = "worker job";
// A process id that does not fit pid_t would become another one, or a negative number that stands for a
// group.
constexpr std::uint64_t kProcessMax = std::numeric_limits<pid_t>::max();

Json to_json(const std::vector<Endpoint>& endpoints) {
  Json list = Json::array();
  for (const Endpoint& endpoint : endpoints)
    list.push_back(Json::object({{"address", endpoint.address}, {"trusted", endpoint.trusted}}));
  return list;
}

/// A flat list: the first and last piece of each range.
Json to_json(const std::vector<PieceMap::Range>& ranges) {
  Json list = Json::array();
  for (const PieceMap::Range& range : ranges) {
    list.push_back(range.first);
    list.push_back(range.last);
  }
  return list;
}

JobKind parse_kind(const std::string& name) {
  if (name == "metadata") return JobKind::metadata;
  if (name == "payload") return JobKind::payload;
  base::throw_malformed(kSubject, "'" + base::to_printable(name) + "' is not a job kind");
}

std::uint64_t parse_bounded(std::uint64_t value, const std::string& key, std::uint64_t max) {
  if (value > max) base::throw_malformed(kSubject, "'" + key + "' is more than " + std::to_string(max));
  return value;
}

template <typename Digest>
std::optional<Digest> parse_infohash(const Json& json, const std::string& key) {
  const Json* text = json.find(key);
  if (!text) return std::nullopt;
  const auto digest = base::parse_digest<Digest>(text->as_string(kSubject));
  if (!digest) base::throw_malformed(kSubject, "'" + key + "' is not an info-hash");
  return digest;
}

/// to_printable() may replace each byte by three.
std::string cut(std::string_view text) { return base::to_printable(text.substr(0, kEventTextMax / 3)); }

std::vector<Endpoint> parse_endpoints(const Json& json) {
  std::vector<Endpoint> endpoints;
  for (const Json& item : json.as_array(kSubject))
    endpoints.push_back({.address = item.at("address", kSubject).as_string(kSubject),
                         .trusted = item.at("trusted", kSubject).as_bool(kSubject)});
  return endpoints;
}

std::vector<PieceMap::Range> parse_pieces(const Json& json) {
  std::vector<PieceMap::Range> ranges;
  std::optional<std::uint64_t> first;
  for (const Json& item : json.as_array(kSubject)) {
    const std::uint64_t piece = item.as_uint(kSubject);
    if (first)
      ranges.push_back({*std::exchange(first, std::nullopt), piece});
    else
      first = piece;
  }
  if (first) base::throw_malformed(kSubject, "'pieces' is not a list of ranges");
  return ranges;
}

}  // namespace

Json to_json(const WorkerJob& job) {
  Json json = Json::object({
      {"job", job.kind == JobKind::metadata ? "metadata" : "payload"},
      {"parent", job.parent},
      {"result", job.result},
      {"torrent", job.torrent},
      {"folder", job.folder},
      {"journal", job.journal},
      {"parts", job.parts},
      {"unwanted", Json::array_of(job.unwanted)},
      {"apart", Json::array_of(job.apart)},
      {"recheck", job.recheck},
      {"pieces", to_json(job.pieces)},
      {"peers", to_json(job.peers)},
      {"trackers", to_json(job.trackers)},
      {"web_seeds", to_json(job.web_seeds)},
      {"mirrors", to_json(job.mirrors)},
      {"limit_down", job.limit_down_bytes_per_s},
      {"limit_up", job.limit_up_bytes_per_s},
      {"memory", job.memory_bytes},
      {"dht_state", job.dht_state},
      {"dht", job.dht},
      {"pex", job.pex},
      {"lsd", job.lsd},
      {"allow_private", job.allow_private},
      {"port", job.port},
      {"v1_only", job.v1_only},
      {"seed_ratio", job.seed_ratio},
      {"seed_time_min", job.seed_time_min},
  });
  if (job.infohash_v1) json.set("infohash_v1", base::to_hex(*job.infohash_v1));
  if (job.infohash_v2) json.set("infohash_v2", base::to_hex(*job.infohash_v2));
  return json;
}

WorkerJob parse_job(std::string_view line) {
  const Json json = format::parse_json(line, kSubject);
  const auto text = [&](std::string_view key) { return json.at(key, kSubject).as_string(kSubject); };
  const auto number = [&](std::string_view key) { return json.at(key, kSubject).as_uint(kSubject); };
  const auto flag = [&](std::string_view key) { return json.at(key, kSubject).as_bool(kSubject); };
  WorkerJob job;
  job.kind = parse_kind(text("job"));
  job.parent = static_cast<std::int64_t>(parse_bounded(number("parent"), "parent", kProcessMax));
  job.result = text("result");
  job.torrent = text("torrent");
  job.folder = text("folder");
  job.journal = text("journal");
  job.parts = text("parts");
  for (const Json& index : json.at("unwanted", kSubject).as_array(kSubject))
    job.unwanted.push_back(index.as_uint(kSubject));
  for (const Json& index : json.at("apart", kSubject).as_array(kSubject))
    job.apart.push_back(index.as_uint(kSubject));
  job.recheck = json.at("recheck", kSubject).as_bool(kSubject);
  job.pieces = parse_pieces(json.at("pieces", kSubject));
  job.peers = parse_endpoints(json.at("peers", kSubject));
  job.trackers = parse_endpoints(json.at("trackers", kSubject));
  job.web_seeds = parse_endpoints(json.at("web_seeds", kSubject));
  job.mirrors = parse_endpoints(json.at("mirrors", kSubject));
  job.limit_down_bytes_per_s = number("limit_down");
  job.limit_up_bytes_per_s = number("limit_up");
  job.memory_bytes = number("memory");
  job.dht_state = text("dht_state");
  job.dht = flag("dht");
  job.pex = flag("pex");
  job.lsd = flag("lsd");
  job.allow_private = flag("allow_private");
  job.port = static_cast<int>(parse_bounded(number("port"), "port", 65535));
  job.v1_only = flag("v1_only");
  job.seed_ratio = json.at("seed_ratio", kSubject).as_double(kSubject);
  job.seed_time_min = json.at("seed_time_min", kSubject).as_double(kSubject);
  job.infohash_v1 = parse_infohash<base::Sha1>(json, "infohash_v1");
  job.infohash_v2 = parse_infohash<base::Sha256>(json, "infohash_v2");
  // A payload job has the info-hashes in its .torrent.
  if (job.kind == JobKind::metadata && !job.infohash_v1 && !job.infohash_v2)
    base::throw_malformed(kSubject, "has no info-hash");
  return job;
}

std::optional<std::string> WorkerPipe::read_line() {
  while (true) {
    const std::size_t end = input_.find('\n');
    if (end != std::string::npos) {
      std::string line = input_.substr(0, end);
      input_.erase(0, end + 1);
      return line;
    }
    char buffer[65536];
    const auto got = ::read(STDIN_FILENO, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    // The end of the input means that the parent is gone. Both that and a line without end stop the worker.
    if (got <= 0 || input_.size() > kLineBytesMax) return std::nullopt;
    input_.append(buffer, static_cast<std::size_t>(got));
  }
}

bool WorkerPipe::stop_requested() {
  // poll() cannot see a line that an earlier read has put into `input_`.
  pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
  while (!stopped_ && (!input_.empty() || ::poll(&input, 1, 0) > 0)) {
    const auto line = read_line();
    stopped_ = !line || *line == "stop";
  }
  return stopped_;
}

void WorkerPipe::send(const Json& event) {
  const std::string line = event.dump() + '\n';
  const std::lock_guard lock(mutex_);  // a pipe keeps only short writes in one piece
  std::string_view rest = line;
  while (!rest.empty()) {
    const auto put = ::write(STDOUT_FILENO, rest.data(), rest.size());
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) std::_Exit(1);  // the parent is gone, and nobody wants the rest
    rest.remove_prefix(static_cast<std::size_t>(put));
  }
}

void WorkerPipe::warn(std::string_view message) {
  send(Json::object({{"event", "warning"}, {"message", cut(message)}}));
}

void WorkerPipe::send_error(base::ErrorKind kind, std::string_view message) {
  send(Json::object({{"event", "error"}, {"kind", base::to_string(kind)}, {"message", cut(message)}}));
}

void WorkerPipe::send_tracker(std::string_view url, std::string_view message) {
  send(Json::object({{"event", "tracker"}, {"url", cut(url)}, {"message", cut(message)}}));
}

}  // namespace sluice::fetch
