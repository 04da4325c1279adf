// Events of a worker, and a fetch whose worker was taken over.

#include "fetch/job/worker_event.h"

#include <doctest/doctest.h>

#include "fetch/job/worker_pipe.h"
#include "fetch/stall_reason.h"
#include "tests/fetch/fetch_support.h"
#include "tests/support/check_error.h"

using namespace sluice;
using namespace sluice::tests;
using base::ErrorKind;

namespace {

const std::string kStatus =
    R"({"event":"status","phase":"fetching","done":5,"total":9,"rate":3,"peers":2,"seeds":1,)"
    R"("downloaded":7,"rehashed":1,"proven":4,"unproven":6,"availability":1.5,"complete":4,"incomplete":6})";

std::string changed(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

struct Release {
  TempDir dir;
  fetch::PublishResult published;

  Release() {
    write_files(dir / "model", sample_files());
    published = publish_folder(dir / "model");
  }

  /// A fetch whose worker is this shell script, after it has read its job.
  [[nodiscard]] fetch::FetchRequest with_worker(const std::string& script) const {
    auto request = make_request(published.torrent, dir / "out", {"127.0.0.1:1"});
    request.worker_command = {"/bin/sh", "-c", "read -r job; " + script};
    request.timeout_s = 1;
    return request;
  }
};

void fetch_quietly(const fetch::FetchRequest& request) {
  RecordingObserver observer;
  static_cast<void>(fetch::fetch(request, observer, {}));
}

}  // namespace

TEST_CASE("events are read as values") {
  const auto status = std::get<fetch::StatusEvent>(fetch::parse_event(kStatus));
  CHECK(status.status.phase == "fetching");
  CHECK(status.status.done_bytes == 5);
  CHECK(status.status.total_bytes == 9);
  CHECK(status.status.rate_bytes_per_s == 3);
  CHECK(status.status.peers == 2);
  CHECK(status.status.seeds == 1);
  CHECK(status.status.availability == 1.5);
  CHECK(status.counts.downloaded_bytes == 7);
  CHECK(status.counts.rehashed_bytes == 1);
  CHECK(status.proven_bytes == 4);
  CHECK(status.unproven_bytes == 6);
  CHECK(status.complete == 4);
  CHECK(status.incomplete == 6);

  const auto bare = std::get<fetch::StatusEvent>(fetch::parse_event(
      changed(changed(changed(kStatus, R"(,"availability":1.5)", ""), R"(,"complete":4)", ""),
              R"(,"incomplete":6)", "")));
  CHECK_FALSE(bare.status.availability.has_value());
  CHECK_FALSE(bare.complete.has_value());

  CHECK(std::get<fetch::StatusEvent>(fetch::parse_event(changed(kStatus, R"("done":5)", R"("done":99)")))
            .status.done_bytes == 9);
  CHECK(std::get<fetch::WarningEvent>(fetch::parse_event(R"({"event":"warning","message":"a\u001b[2Jb"})"))
            .message == "a\uFFFD[2Jb");
  const auto tracker =
      std::get<fetch::TrackerEvent>(fetch::parse_event(R"({"event":"tracker","url":"u","message":"m"})"));
  CHECK(tracker.url == "u");
  CHECK(tracker.message == "m");
  const auto end =
      std::get<fetch::EndEvent>(fetch::parse_event(R"({"event":"stopped","downloaded":1,"rehashed":2})"));
  CHECK_FALSE(end.done);
  CHECK(end.counts.rehashed_bytes == 2);
}

TEST_CASE("a worker cannot make its parent end for a reason that no transfer has") {
  const auto kind_of = [](const std::string& name) {
    return std::get<fetch::ErrorEvent>(
               fetch::parse_event(R"({"event":"error","kind":")" + name + R"(","message":"m"})"))
        .kind;
  };
  CHECK(kind_of("no_space") == ErrorKind::no_space);
  CHECK(kind_of("malformed") == ErrorKind::malformed);
  for (const char* name : {"usage", "verification", "untrusted", "interrupted", "no_peers", "", "x"})
    CHECK(kind_of(name) == ErrorKind::io);
}

TEST_CASE("what is no event is refused, and says why") {
  const std::string long_text(fetch::kEventTextMax + 1, 'x');
  const struct {
    std::string line;
    std::string part;
  } kBad[] = {
      {"", "worker event: "},
      {"status", "worker event: "},
      {"[]", "expected an object, found an array"},
      {"{}", "key 'event' is missing"},
      {R"({"event":7})", "expected a string"},
      {R"({"event":"hello"})", "unknown event"},
      {R"({"event":"warning"})", "key 'message' is missing"},
      {R"({"event":"warning","message":")" + long_text + R"("})", "'message' is too long"},
      {R"({"event":"tracker","url":")" + long_text + R"(","message":""})", "'url' is too long"},
      {R"({"event":"warning","message":")" + std::string(fetch::kEventBytesMax, 'x') + R"("})",
       "worker event: is too long"},
      {R"({"event":"error","message":"m"})", "key 'kind' is missing"},
      {R"({"event":"done","downloaded":1})", "key 'rehashed' is missing"},
      {R"({"event":"done","downloaded":-1,"rehashed":0})", "worker event: "},
      {R"({"event":"done","downloaded":1e30,"rehashed":0})", "worker event: "},
      {R"({"event":"done","downloaded":18446744073709551615,"rehashed":0})", "'downloaded' is too large"},
      {changed(kStatus, "fetching", "resting"), "unknown phase"},
      {changed(kStatus, R"("peers":2)", R"("peers":4294967296)"), "'peers' is too large"},
      {changed(kStatus, R"("total":9)", R"("total":99999999999999999)"), "'total' is too large"},
      {changed(kStatus, R"("complete":4)", R"("complete":-1)"), "worker event: "},
      {changed(kStatus, "1.5", "-0.1"), "'availability' is out of range"},
      {changed(kStatus, "1.5", "1e300"), "'availability' is out of range"},
      {changed(kStatus, "1.5", "\"1.5\""), "worker event: "},
      {std::string(100'000, '['), "is too long"},
      {std::string(60'000, '['), "levels"},
  };
  for (const auto& [line, part] : kBad) CHECK_ERROR(fetch::parse_event(line), ErrorKind::malformed, part);
}

TEST_CASE("an event that is cut at any byte is no event") {
  for (const std::string& line : {kStatus, std::string(R"({"event":"error","kind":"io","message":"m"})")})
    for (std::size_t length = 0; length < line.size(); ++length)
      CHECK_ERROR(fetch::parse_event(line.substr(0, length)), ErrorKind::malformed, "worker event: ");
}

TEST_CASE("a job comes out of the pipe as it went in, and one that is cut is refused") {
  fetch::WorkerJob job;
  job.kind = fetch::JobKind::metadata;
  job.parent = 7;
  job.result = "r";
  job.dht_state = "cache/dht.state";
  job.infohash_v1 = base::Sha1();
  job.peers = {{"127.0.0.1:1", true}};
  job.trackers = {{"udp://a:1", false}};
  job.unwanted = {3};
  job.pieces = {{0, 2}, {7, 8}};
  job.port = 65535;
  job.seed_ratio = 1.5;
  const std::string line = fetch::to_json(job).dump();
  CHECK(fetch::to_json(fetch::parse_job(line)).dump() == line);
  for (std::size_t length = 0; length < line.size(); ++length)
    CHECK_ERROR(fetch::parse_job(line.substr(0, length)), ErrorKind::malformed, "worker job: ");
  CHECK_ERROR(fetch::parse_job(changed(line, "\"metadata\"", "\"tea\"")), ErrorKind::malformed,
              "'tea' is not a job kind");
  CHECK_ERROR(fetch::parse_job(changed(line, "0,2,7,8", "0,2,7")), ErrorKind::malformed,
              "'pieces' is not a list of ranges");
  CHECK_ERROR(fetch::parse_job(changed(line, "65535", "65536")), ErrorKind::malformed, "'port' is more than");
  CHECK_ERROR(fetch::parse_job(changed(line, "0000\"", "000g\"")), ErrorKind::malformed,
              "'infohash_v1' is not an info-hash");
  job.infohash_v1.reset();
  CHECK_ERROR(fetch::parse_job(fetch::to_json(job).dump()), ErrorKind::malformed, "has no info-hash");
}

TEST_CASE("the reason for waiting names what is missing") {
  using fetch::stall_reason;
  CHECK(stall_reason(
            {.metadata = true, .peers = 0, .trackers = 3, .failing_trackers = 2, .availability = {}}) ==
        "no peers; 2 of 3 trackers fail");
  CHECK(stall_reason(
            {.metadata = true, .peers = 1, .trackers = 0, .failing_trackers = 0, .availability = {}}) ==
        "no connected peer sends the metadata");
  CHECK(stall_reason(
            {.metadata = false, .peers = 4, .trackers = 1, .failing_trackers = 1, .availability = 0.999}) ==
        "the connected peers lack parts of it (availability 0.99); 1 of 1 tracker fails");
  CHECK(stall_reason(
            {.metadata = false, .peers = 4, .trackers = 1, .failing_trackers = 0, .availability = 1.0}) ==
        "the connected peers send nothing");
  CHECK(stall_reason({.peers = 1, .unproven = true, .availability = 1.0}) ==
        "nothing that the peers send proves right");
  CHECK(stall_reason({.metadata = true, .peers = 1, .unproven = true, .availability = {}}) ==
        "what peers sent is not the metadata, or not all of it");
}

TEST_CASE("a worker that talks nonsense is started again, and in the end given up") {
  const Release release;
  write_text(release.dir / "long", std::string(fetch::kEventBytesMax + 1, 'x') + "\n");
  // All of them one process: a child of theirs would outlive them, and keep the folder locked.
  const struct {
    std::string script;
    std::string part;
  } kScripts[] = {
      {"echo nonsense; exec sleep 60", "worker event: "},
      {"echo '{\"event\":\"take over\"}'; exec sleep 60", "unknown event"},
      {"exec head -c 1000000 /dev/zero", "a line without an end"},
      // Its output closed, but alive.
      {"exec >&-; exec sleep 1", "exit code 0"},
      {"exec cat " + (release.dir / "long").string(), ""},
      {"echo '" + kStatus + "'; echo '" + changed(kStatus, R"("total":9)", R"("total":8)") +
           "'; exec sleep 60",
       "'total' has changed"},
  };
  for (const auto& [script, part] : kScripts) {
    CAPTURE(script);
    auto request = release.with_worker(script);
    request.timeout_s = 60;
    CHECK_ERROR(fetch_quietly(request), ErrorKind::io, "crashed 6 times in a row, the last time: ");
    CHECK_ERROR(fetch_quietly(request), ErrorKind::io, part);
  }
}

TEST_CASE("a worker that proves something before each crash is started again without end") {
  const Release release;
  const std::string count = (release.dir / "count").string();
  const auto request = release.with_worker(
      "echo x >> " + count + "; echo '" + changed(kStatus, R"("proven":4)", R"("proven":20000000)") +
      "'; [ $(wc -l < " + count + ") -lt 9 ] && exit 1; " +
      R"(echo '{"event":"error","kind":"network","message":"the ninth"}')");
  CHECK_ERROR(fetch_quietly(request), ErrorKind::network, "the ninth");
}

TEST_CASE("a worker in which v1 and v2 hashes seem to differ is followed by one that gets only v1") {
  const Release release;
  const std::string differ =
      R"(echo '{"event":"error","kind":"io","message":")" + std::string(fetch::kHashesDiffer) + R"("}')";
  const std::string as_v1 = R"(case "$job" in *'"v1_only":true'*) )";
  CHECK_ERROR(fetch_quietly(release.with_worker(
                  as_v1 + R"(echo '{"event":"error","kind":"network","message":"the second"}';; *) )" +
                  differ + ";; esac")),
              ErrorKind::network, "the second");
  // Not without end, whatever the second one says.
  CHECK_ERROR(fetch_quietly(release.with_worker(differ)), ErrorKind::io, std::string(fetch::kHashesDiffer));
}

TEST_CASE("a worker that is out of memory is started again if it has brought something") {
  const Release release;
  const std::string end =
      std::string(R"({"event":"error","kind":"io","message":")") + std::string(fetch::kOutOfMemory) + "\"}";
  CHECK_ERROR(fetch_quietly(release.with_worker("echo '" + kStatus + "'; echo '" + end + "'")), ErrorKind::io,
              std::string(fetch::kOutOfMemory));
  const std::string status = changed(kStatus, R"("downloaded":7)", R"("downloaded":20000000)");
  const std::string once = (release.dir / "once").string();
  const auto request =
      release.with_worker("echo '" + status + "'; mkdir " + once + " && echo '" + end + "' && exit 1; " +
                          R"(echo '{"event":"error","kind":"network","message":"the second"}')");
  CHECK_ERROR(fetch_quietly(request), ErrorKind::network, "the second");
}

TEST_CASE("a worker that says it is done without having done it is not believed") {
  const Release release;
  CHECK_ERROR(
      fetch_quietly(release.with_worker("echo '{\"event\":\"done\",\"downloaded\":9,\"rehashed\":0}'")),
      ErrorKind::incomplete, "is not verified");
}

TEST_CASE("a worker that talks without end does not fill the screen") {
  const Release release;
  auto request = release.with_worker(
      "yes '{\"event\":\"warning\",\"message\":\"buy\"}' | head -n 20000; "
      "echo '{\"event\":\"error\",\"kind\":\"network\",\"message\":\"end\"}'");
  request.timeout_s = 60;
  RecordingObserver observer;
  CHECK_ERROR(fetch::fetch(request, observer, {}), ErrorKind::network, "end");
  CHECK(observer.warnings.size() == 500);
  CHECK(observer.warnings.back() == "further warnings are not shown");
}

TEST_CASE("when nothing arrives the end says why") {
  const Release release;
  const std::string stalled = changed(kStatus, "1.5", "0.43");
  const std::string tracker = R"({"event":"tracker","url":"udp://t","message":"no route"})";
  const auto request = release.with_worker("echo '" + stalled + "'; echo '" + tracker +
                                           "'; read -r stop; "
                                           "echo '{\"event\":\"stopped\",\"downloaded\":0,\"rehashed\":0}'");
  CHECK_ERROR(fetch_quietly(request), ErrorKind::no_peers, "no peer delivered payload for 1 s");
  CHECK_ERROR(fetch_quietly(request), ErrorKind::no_peers, "tracker udp://t: no route");
  CHECK_ERROR(fetch_quietly(request), ErrorKind::no_peers,
              "the connected peers lack parts of it (availability 0.43)");
}

TEST_CASE("the swarm is told once") {
  class SwarmObserver final : public RecordingObserver {
   public:
    void on_swarm(const fetch::Swarm& swarm) override { swarms.push_back(swarm); }
    std::vector<fetch::Swarm> swarms;
  };
  const Release release;
  const auto request =
      release.with_worker("echo '" + kStatus + "'; echo '" + kStatus +
                          "'; echo '{\"event\":\"error\",\"kind\":\"io\",\"message\":\"x\"}'");
  SwarmObserver observer;
  CHECK_ERROR(fetch::fetch(request, observer, {}), ErrorKind::io, "x");
  REQUIRE(observer.swarms.size() == 1);
  CHECK(observer.swarms[0].peers == 2);
  CHECK(observer.swarms[0].seeds == 1);
  CHECK(observer.swarms[0].complete == 4);
  CHECK(observer.swarms[0].incomplete == 6);
  CHECK(observer.swarms[0].availability == 1.5);
}
