// Downloads a .torrent from a web server. The user named the URL, so it is trusted; redirects are not.

#include <chrono>
#include <cstdint>
#include <span>
#include <string>

#include "base/error.h"
#include "base/stopwatch.h"
#include "base/text.h"
#include "fetch/fetch.h"
#include "fetch/job/memory_budget.h"
#include "fetch/net/address.h"
#include "fetch/net/http_client.h"
#include "fetch/torrent/torrent_file.h"

namespace sluice::fetch {
namespace {

/// Why a response's body is not the file; empty when it is.
std::string problem_of(const HttpAnswer& answer) {
  if (answer.outcome != HttpOutcome::answered) return answer.why;
  if (answer.head.status != 200) return "HTTP " + std::to_string(answer.head.status);
  if (answer.head.is_encoded()) return "the server sends it in an encoding that was not asked for";
  if (answer.stalled) return "the server stops answering";
  return answer.complete ? "" : "the answer breaks off";
}

[[noreturn]] void throw_too_long(const std::string& url, std::uint64_t bytes_max,
                                 std::uint64_t memory_bytes) {
  const std::string what = "has more than " + std::to_string(bytes_max) + " bytes";
  if (bytes_max == kTorrentBytesMax) base::throw_malformed(url, what);
  throw base::Error(base::ErrorKind::usage, url + ": " + what + ", the most that can be read with --memory " +
                                                base::to_human_bytes(memory_bytes) +
                                                "; with --memory 512MiB any .torrent can be read");
}

}  // namespace

std::string download_torrent(const FetchRequest& request, const std::stop_token& stop) {
  const std::string& url = request.source;
  if (const std::string problem = web_seed_problem(url); !problem.empty())
    throw base::Error(base::ErrorKind::usage, "'" + url + "' " + problem);
  const std::uint64_t bytes_max = torrent_limits(request.memory_bytes).bytes_max;
  std::string content;
  bool too_long = false;
  const auto take = [&](const HttpHead& head, std::span<const char> bytes) {
    if (head.status != 200) return false;
    too_long = bytes.size() > bytes_max - content.size();
    if (too_long) return false;
    content.append(bytes.data(), bytes.size());
    return true;
  };
  const std::chrono::milliseconds timeout(static_cast<std::int64_t>(request.timeout_s * 1000));
  HttpClient client({.allow_private = request.allow_private, .trusted = true, .total_timeout = timeout},
                    stop);
  const base::Stopwatch watch;
  const HttpAnswer answer = client.get(url, "", take);
  if (answer.outcome == HttpOutcome::stopped) throw base::Error(base::ErrorKind::interrupted, "interrupted");
  if (too_long) throw_too_long(url, bytes_max, request.memory_bytes);
  const std::string problem = problem_of(answer);
  if (problem.empty()) return content;
  constexpr double kClockSlack_s = 0.05;  // libcurl counts whole milliseconds
  if (request.timeout_s > 0 && watch.seconds() >= request.timeout_s - kClockSlack_s)
    throw base::Error(base::ErrorKind::no_peers, url + ": the .torrent did not arrive within --timeout (" +
                                                     base::to_human_seconds(request.timeout_s) + "); " +
                                                     base::to_human_bytes(content.size()) + " arrived");
  throw base::Error(base::ErrorKind::network, url + ": cannot be downloaded: " + problem);
}

}  // namespace sluice::fetch
