#include "fetch/worker.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <boost/system/system_error.hpp>
#include <cerrno>
#include <cstdlib>

#include "fetch/fetch.h"

namespace sluice::fetch {
namespace {

using format::Json;

constexpr std::size_t kLineBytesMax = 64u << 20;
constexpr std::string_view kSubject = "worker job";

Json to_json(const std::vector<Contact>& contacts) {
  Json list = Json::array();
  for (const Contact& contact : contacts)
    list.push_back(Json::object({{"address", contact.address}, {"trusted", contact.trusted}}));
  return list;
}

std::vector<Contact> parse_contacts(const Json& json) {
  std::vector<Contact> contacts;
  for (const Json& item : json.as_array(kSubject))
    contacts.push_back({.address = item.at("address", kSubject).as_string(kSubject),
                        .trusted = item.at("trusted", kSubject).as_bool(kSubject)});
  return contacts;
}

/// A worker must never outlive its parent: nobody would know what it does.
void die_with_parent(std::int64_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != static_cast<pid_t>(parent)) std::_Exit(1);
}

void run_job(const WorkerJob& job, WorkerPipe& pipe) {
  switch (job.kind) {
    case JobKind::metadata: return run_metadata_job(job, pipe);
    case JobKind::payload: return run_payload_job(job, pipe);
  }
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
      {"peers", to_json(job.peers)},
      {"trackers", to_json(job.trackers)},
      {"web_seeds", to_json(job.web_seeds)},
      {"mirrors", to_json(job.mirrors)},
      {"limit_down", job.limit_down_bytes_per_s},
      {"limit_up", job.limit_up_bytes_per_s},
      {"memory", job.memory_bytes},
      {"dht", job.dht},
      {"pex", job.pex},
      {"lsd", job.lsd},
      {"allow_private", job.allow_private},
      {"port", job.port},
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
  job.kind = text("job") == "metadata" ? JobKind::metadata : JobKind::payload;
  job.parent = static_cast<std::int64_t>(number("parent"));
  job.result = text("result");
  job.torrent = text("torrent");
  job.folder = text("folder");
  job.journal = text("journal");
  job.parts = text("parts");
  for (const Json& index : json.at("unwanted", kSubject).as_array(kSubject))
    job.unwanted.push_back(index.as_uint(kSubject));
  job.peers = parse_contacts(json.at("peers", kSubject));
  job.trackers = parse_contacts(json.at("trackers", kSubject));
  job.web_seeds = parse_contacts(json.at("web_seeds", kSubject));
  job.mirrors = parse_contacts(json.at("mirrors", kSubject));
  job.limit_down_bytes_per_s = number("limit_down");
  job.limit_up_bytes_per_s = number("limit_up");
  job.memory_bytes = number("memory");
  job.dht = flag("dht");
  job.pex = flag("pex");
  job.lsd = flag("lsd");
  job.allow_private = flag("allow_private");
  job.port = static_cast<int>(number("port"));
  job.seed_ratio = json.at("seed_ratio", kSubject).as_double(kSubject);
  job.seed_time_min = json.at("seed_time_min", kSubject).as_double(kSubject);
  if (json.find("infohash_v1")) job.infohash_v1 = base::parse_digest<base::Sha1>(text("infohash_v1"));
  if (json.find("infohash_v2")) job.infohash_v2 = base::parse_digest<base::Sha256>(text("infohash_v2"));
  return job;
}

std::optional<base::ErrorKind> parse_error_kind(std::string_view name) {
  for (int i = 0; i <= static_cast<int>(base::ErrorKind::io); ++i) {
    const auto kind = static_cast<base::ErrorKind>(i);
    if (base::to_string(kind) == name) return kind;
  }
  return std::nullopt;
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
    if (got <= 0 || input_.size() > kLineBytesMax) return std::nullopt;
    input_.append(buffer, static_cast<std::size_t>(got));
  }
}

bool WorkerPipe::stop_requested() {
  pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
  while (!stopped_ && (!input_.empty() || ::poll(&input, 1, 0) > 0)) {
    const auto line = read_line();
    stopped_ = !line || *line == "stop";
  }
  return stopped_;
}

void WorkerPipe::send(const Json& event) {
  const std::string line = event.dump() + '\n';
  const std::lock_guard lock(mutex_);
  std::string_view rest = line;
  while (!rest.empty()) {
    const auto put = ::write(STDOUT_FILENO, rest.data(), rest.size());
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) std::_Exit(1);
    rest.remove_prefix(static_cast<std::size_t>(put));
  }
}

void WorkerPipe::warn(const std::string& message) {
  send(Json::object({{"event", "warning"}, {"message", message}}));
}

int run_worker() {
  ::signal(SIGINT, SIG_IGN);  // the parent decides what Ctrl-C means
  WorkerPipe pipe;
  const auto send_error = [&](base::ErrorKind kind, const std::string& message) {
    pipe.send(Json::object({{"event", "error"}, {"kind", base::to_string(kind)}, {"message", message}}));
    return base::exit_code(kind);
  };
  try {
    const auto line = pipe.read_line();
    if (!line)
      throw base::Error(base::ErrorKind::usage, "a worker is started by 'sluice fetch', not by hand");
    const WorkerJob job = parse_job(*line);
    die_with_parent(job.parent);
    run_job(job, pipe);
    return 0;
  } catch (const base::Error& error) {
    return send_error(error.kind(), error.what());
  } catch (const boost::system::system_error& error) {  // libtorrent's
    return send_error(base::ErrorKind::io, error.what());
  }
}

}  // namespace sluice::fetch
