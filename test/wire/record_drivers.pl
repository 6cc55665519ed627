# make traces: records anew what the drivers that are here say (test/drivers) to a PostgreSQL of its own, by the relay `record`. The scripts are written where
# the logs are, and make copies them to test/wire/traces; what is kept of a driver that is not here stays as it was.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../t";

use Drivers;
use Gateway;
use PostgreSQL::Test::Utils;
use Test::More;

my $into = "$ENV{TESTLOGDIR}/traces";
my $checks = 'simple,types,prepared,transaction,errors,plan,pipeline,pipelined,batch,many,flush,copy,cursor,settings';
mkdir $into;

my $origin = Gateway::start_instance('origin', "shared_preload_libraries = ''\n");
$origin->safe_psql('postgres', 'CREATE ROLE app LOGIN; CREATE DATABASE shop OWNER app');

$Drivers::by_trust = 1;
for my $name (Drivers::names())
{
	my ($command, $folder) = Drivers::command_of($name);
  SKIP:
	{
		skip("$name is not installed", 1) if !$command;
		delete local $ENV{PGAPPNAME};
		local %ENV = (%ENV, PGUSER => 'app', PGPASSWORD => 'none', PGDATABASE => 'shop', PYTHONUNBUFFERED => 1);
		my ($out, $err, $well) = Drivers::run([ $^X, "$FindBin::RealBin/record", '--to', '127.0.0.1:' . $origin->port, '--into', $into, '--name', $name,
				'--only', $checks, (map { ('--rename', "$_=hpw_$_") } qw(visits plans changing)), '--', @$command ], $folder);
		ok($well, "$name is recorded") or diag($out);
		diag($err) if $err;
	}
}
done_testing();
