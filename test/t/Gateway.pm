# Gateway: an origin and a regional instance that runs hyperpool, for the tests of behaviour.
# Everybody is let in by trust here; how people get in is the matter of the login tests.
package Gateway;

use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use RawClient;
use Relay;
use Test::More ();
use Time::HiRes qw(sleep time);

our $user = 'app';

# settings: lines of the regional postgresql.conf, origin_settings: of the origin's; options: of create_origin, as SQL
# ("pool_size => 1"); relay: the way to the origin goes through test/tools/relay; create => 0: no origin is created.
# endpoint: another of these, which is the origin of this one; name: of the regional instance.
sub new
{
	my ($class, %o) = @_;
	my $self = bless {%o}, $class;

	$self->{origin} = $o{endpoint} ? $o{endpoint}{origin} : start_origin($o{origin_settings});
	$self->start_relay if $o{relay};
	$self->{port} = PostgreSQL::Test::Cluster::get_free_port();
	$self->{region} = start_instance($o{name} // 'region', join("\n",
		"shared_preload_libraries = 'hyperpool'", "hyperpool.port = $self->{port}", "hyperpool.listen_addresses = '127.0.0.1'",
		'hyperpool.workers = ' . ($o{workers} // 1), 'hyperpool.directory_refresh = 1s', $o{settings} // '', ''));
	$self->sql("CREATE EXTENSION hyperpool; CREATE ROLE $user LOGIN");
	$self->create('app') unless defined $o{create} && !$o{create};
	return $self;
}

sub start_origin
{
	my ($settings) = @_;
	my $origin = start_instance('origin', "shared_preload_libraries = ''\n" . ($settings // ''));
	$origin->safe_psql('postgres', "CREATE ROLE $user LOGIN; CREATE DATABASE app OWNER $user; GRANT pg_monitor, pg_signal_backend TO $user");
	return $origin;
}

# TCP on 127.0.0.1 beside the socket: raw clients, relays and origins by address need it.
sub start_instance
{
	my ($name, $settings) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name);
	$node->init;
	$node->append_conf('postgresql.conf', "listen_addresses = '127.0.0.1'\nmax_connections = 200\n$settings");
	$node->start;
	return $node;
}

# ---- the regional instance ----

sub sql { my ($self, $sql) = @_; return $self->{region}->safe_psql('postgres', $sql); }

# The same, when it may fail: (answer, error).
sub try_sql
{
	my ($self, $sql) = @_;
	my ($out, $err);
	$self->{region}->psql('postgres', $sql, stdout => \$out, stderr => \$err, on_error_stop => 1);
	return ($out, $err);
}

sub connection_string
{
	my ($self, $database) = @_;
	my $port = $self->{relay_port} // ($self->{endpoint} ? $self->{endpoint}{port} : $self->{origin}->port);
	return "host=127.0.0.1 port=$port user=$user dbname=" . ($database // 'app') . ($self->{connection} ? " $self->{connection}" : '');
}

sub create
{
	my ($self, $name, $options, $database) = @_;
	$options //= $self->{options} // '';
	# most tests are about what reaches the origin
	$options .= ($options ? ', ' : '') . 'cache => false' unless $options =~ /\bcache\s*=>/;
	$self->sql("SELECT hyperpool.create_origin('$name', '" . $self->connection_string($database) . "', allow_trust => true"
		  . ", $options); GRANT USAGE ON FOREIGN SERVER $name TO PUBLIC");
	# create_origin waits until the workers know; GRANT does not
	wait_until(sub { $self->can_enter($name) }, 1) or die "nobody may enter origin $name";
}

sub can_enter
{
	my ($self, $name) = @_;
	# the port of a worker that has just started is not open yet
	my $client = eval { $self->client(database => $name, may_fail => 1) } or return 0;
	$client->terminate;
	return $client->{greeting}{done} ? 1 : 0;
}

sub alter
{
	my ($self, $options) = @_;
	$self->sql("SELECT hyperpool.alter_origin('app', $options)");
}

# Their catalogs are known from now on. On a busy machine the scout may give up a read, and begins it anew.
sub learn
{
	my ($self, @names) = @_;
	for my $name (@names)
	{
		my $error;
		for (1 .. 5)
		{
			$error = ($self->try_sql("SELECT hyperpool.refresh_catalog('$name', '60s')"))[1];
			last unless $error =~ /did not answer in time|was not read in time/;
		}
		die "the catalog of $name was not read: $error" if $error ne '';
	}
	return;
}

# The same by a connection that stays: for what lasts shorter than a psql needs to start.
sub look
{
	my ($self, $sql) = @_;
	$self->{looker} //= RawClient->new(port => $self->{region}->port, user => scalar getpwuid($>), database => 'postgres');
	return $self->{looker}->value($sql);
}

# Waits until the answer is the one wanted; what it was last.
sub wait_for
{
	my ($self, $sql, $wanted, $seconds) = @_;
	return wait_until(sub { $self->sql($sql) }, $wanted, $seconds);
}

sub wait_until
{
	my ($ask, $wanted, $seconds) = @_;
	my $deadline = time() + ($seconds // 20);
	my $got;
	do
	{
		$got = $ask->() // '';
		return $got if "$got" eq $wanted;
		sleep 0.05;
	} while (time() < $deadline);
	return $got;
}

sub counter { my ($self, $name, $origin) = @_; $origin //= 'app'; return $self->sql("SELECT $name FROM hyperpool.stat_origins WHERE origin = '$origin'"); }

# Asks until it rides on a shared link: by then it is known to be quick, however busy the machine is.
sub ask_until_shared
{
	my ($self, $client, $messages) = @_;
	my $name = $client->{database};
	my $shared = sub { return $self->sql("SELECT shared FROM hyperpool.stat_origins WHERE origin = '$name'"); };
	for (1 .. 50)
	{
		my $before = $shared->();
		for (1 .. 5)
		{
			$client->put_raw($messages);
			$client->answer;
		}
		return if $shared->() == $before + 5;
	}
	die 'a read is not shared';
}

sub worker_pids { my ($self) = @_; return split /\n/, $self->sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'hyperpool worker' ORDER BY pid"); }

# kB of memory that process has for itself alone and in RAM: shared memory is not the worker's growth. With a sanitizer or valgrind, which keep what is freed, it would say
# nothing, and is 0.
sub private_memory
{
	my ($pid) = @_;
	open my $file, '<', "/proc/$pid/status" or return undef;
	return 0 if $ENV{CHECKER_LOGS};
	my ($rss) = join('', <$file>) =~ /^RssAnon:\s+(\d+)/m;
	return $rss;
}

# The gateway must be well after whatever a test did to it: same postmaster, no process of it killed, and it serves.
sub is_unharmed
{
	my ($self, $what) = @_;
	my $log = PostgreSQL::Test::Utils::slurp_file($self->{region}->logfile);
	Test::More::unlike($log, qr/terminated by signal|TRAP:|PANIC:|server process .* exited/, "$what: no process died");
	Test::More::unlike($log, qr/background worker "hyperpool [^"]*" \(PID \d+\) exited/, "$what: no worker ended");
	Test::More::is(RawClient::outcome($self->client->query('SELECT 42')), '42', "$what: the gateway serves");
}

# ---- clients ----

sub client { my ($self, %o) = @_; return RawClient->new(port => $self->{port}, user => $user, database => 'app', %o); }

sub connstr { my ($self, $name) = @_; return "host=127.0.0.1 port=$self->{port} user=$user dbname=" . ($name // 'app'); }

# A connection to the origin itself, not through the gateway.
sub direct { my ($self, %o) = @_; return RawClient->new(port => $self->{origin}->port, user => $user, database => 'postgres', %o); }

# How many connections of the gateway the origin has now.
our $count_links = q{SELECT count(*) FROM pg_stat_activity WHERE datname = 'app' AND backend_type = 'client backend' AND application_name <> 'hyperpool scout'};

sub links_at_origin
{
	my ($self) = @_;
	$self->{watcher} //= $self->direct;
	return $self->{watcher}->value($count_links);
}

# ---- the relay ----

sub start_relay
{
	my ($self) = @_;
	$self->{way} = Relay->new($self->{origin}->port, $self->{rtt});
	@$self{qw(relay_port relay_out relay_control relay_fifo)} = @{ $self->{way} }{qw(port out control fifo)};
}

# The origin moves so many milliseconds away: links that are open are left, and others know from their first exchange how far it is.
sub move_away
{
	my ($self, $ms, @names) = @_;
	$self->relay("rtt $ms");
	for my $name (@names)
	{
		$self->sql("SELECT hyperpool.restart_origin('$name')");
		$self->wait_for("SELECT coalesce(sum(sv_idle + sv_active), 0) FROM hyperpool.pools WHERE origin = '$name'", '0');
	}
}

sub relay { my ($self, $command) = @_; return $self->{way}->tell($command); }

1;
